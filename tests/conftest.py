"""What all tests share: their helper modules on the path, the same examples on every run, and which fastgd they test.

With FASTGD_TEST_INSTALLED=1 (`make test`, CI) that must be an installed package, not a checkout that shadows it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import settings

import fastgd

sys.path.insert(0, str(Path(__file__).parent))

# The same examples every time; `pytest --hypothesis-profile=explore` looks at new ones.
settings.register_profile("fixed", derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", derandomize=False, database=None, print_blob=True)
settings.load_profile("fixed")

FOLDER = Path(fastgd.__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="how often test_io.py kills what saves, and what fits")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


def pytest_report_header() -> str:
    return f"fastgd: {fastgd.__version__} from {FOLDER}"


def pytest_sessionstart() -> None:
    if (
        os.environ.get("FASTGD_TEST_INSTALLED") == "1"
        and FOLDER.parent != Path(sysconfig.get_path("platlib")).resolve()
    ):
        raise pytest.UsageError(f"the installed fastgd was to be tested, but the one of {FOLDER} was imported")
