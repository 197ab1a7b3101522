"""What all tests share: their helper modules on the path, the same examples on every run, and which fastgd they test.

With FASTGD_TEST_INSTALLED=1 (`make test`, CI) that must be an installed package, not a checkout that shadows it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Two threads of OpenBLAS wait for each other by spinning; on cores that others use too, that takes most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastgd

sys.path.insert(0, str(Path(__file__).parent))

# The same examples every time; `pytest --hypothesis-profile=explore` looks at new ones.
settings.register_profile("fixed", derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", derandomize=False, database=None, print_blob=True)
settings.load_profile("fixed")

LEFT_OUT = pytest.StashKey[Counter[str]]()
TOLD = pytest.StashKey[list[str]]()

FOLDER = Path(fastgd.__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="how often processes that save and fit are killed")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the end of pytest's report."""
    return request.config.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


def pytest_report_header() -> str:
    return f"fastgd: {fastgd.__version__} from {FOLDER}"


def absent(item: pytest.Item) -> str | None:
    """The peer that a test is a comparison with, if it is not installed."""
    mark = item.get_closest_marker("peer")
    return mark.args[0] if mark and importlib.util.find_spec(mark.args[0]) is None else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Comparisons with peers too large for any extra are left out where these are absent, and a line says so."""
    left_out = [item for item in items if absent(item)]
    items[:] = [item for item in items if not absent(item)]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = Counter(absent(item) or "" for item in left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    left_out = config.stash[LEFT_OUT].items()
    return [f"{name} is not installed: {n} comparisons with it left out" for name, n in left_out]


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
