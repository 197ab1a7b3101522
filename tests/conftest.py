"""What all tests share: their helper modules on the path, the same examples on every run, and which fastgd they test.

With FASTGD_TEST_INSTALLED=1 (`make test`, CI) that must be an installed package, not a checkout that shadows it.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
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


def pytest_report_header() -> str:
    return f"fastgd: {fastgd.__version__} from {FOLDER}"


def pytest_sessionstart() -> None:
    if (
        os.environ.get("FASTGD_TEST_INSTALLED") == "1"
        and FOLDER.parent != Path(sysconfig.get_path("platlib")).resolve()
    ):
        raise pytest.UsageError(f"the installed fastgd was to be tested, but the one of {FOLDER} was imported")


@pytest.fixture
def seconds_to_hear() -> Iterator[Callable[..., float]]:
    """Calls a function, interrupts it after some seconds as Ctrl-C does, and returns how long that took to be heard."""
    heard: list[float] = []

    def interrupt(*_: object) -> None:
        heard.append(time.perf_counter())
        raise KeyboardInterrupt

    def seconds(after: float, function: Callable[..., object], *args: object, **options: object) -> float:
        signal.setitimer(signal.ITIMER_REAL, after)
        due = time.perf_counter() + after
        with pytest.raises(KeyboardInterrupt):
            function(*args, **options)
        return heard[-1] - due

    before = signal.signal(signal.SIGALRM, interrupt)
    yield seconds
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
