"""Which cases are done on which problems, and with how many threads."""

from __future__ import annotations

from typing import NamedTuple

import contest
from cases import UPDATES
from problems import Problem, dense, sparse

__all__ = ["PLANS", "Entry", "compared"]

DTYPES = ("float32", "float64")


class Entry(NamedTuple):
    """Cases that share the data of a problem, on one thread or on all cores."""

    problem: Problem
    cases: tuple[str, ...]
    all_cores: bool = False


def both(
    name: str, widths: list[int], cases: tuple[str, ...], order: str = "C", all_cores: bool = False
) -> list[Entry]:
    """Problems of this size, of each dtype and width."""
    return [Entry(dense(name, d, dtype, order), cases, all_cores) for dtype in DTYPES for d in widths]


TINY = Problem("tiny", 4, 2, "float64")
SMALL = Problem("small", 442, 10, "float64")
#: Parameters and their gradient, which is the only row.
PARAMETERS = [
    Problem("parameters", 1, 100, "float32"),
    Problem("parameters", 1, 1_000_000, "float32"),
    Problem("parameters", 1, 1_000_000, "float64"),
]
RULES = tuple(f"update: {name}" for name in UPDATES)
#: As users of statistics have them.
REGRESSIONS = [
    SMALL,
    Problem("regression", 1_000_000, 20, "float64"),
    Problem("regression", 100_000, 100, "float32"),
    Problem("regression", 20_000, 1_000, "float64"),
]
#: What scikit-learn's users do, on data from hundreds of rows to a hundred thousand.
ESTIMATORS = ("estimator: fit", "estimator: elastic net", "estimator: SGD", "estimator: SGD in order")
TABLES = [
    SMALL,
    Problem("table", 20_000, 20, "float64"),
    Problem("table", 100_000, 100, "float32"),
    Problem("table", 20_000, 200, "float64"),
]
#: Functions of one column of numbers, and a network of ten inputs.
COMPOSITIONS = [Problem(name, n, 1, "float64") for name, n in (("few", 10), ("many", 1_000), ("million", 1_000_000))]
TEXTBOOK = Problem("textbook", 1, 1, "float64")
NETWORK = [Problem("network", 64, 10, dtype) for dtype in DTYPES]
#: More than the engine ever cuts X into.
BLOCKS = Problem("many blocks", 1_200_000, 32, "float32")

SPARSE = [sparse("sparse", 100_000, 10_000, dtype, 0.005) for dtype in DTYPES] + [
    sparse("sparse, short rows", 1_000_000, 10_000, "float32", 0.0005),
    sparse("sparse, long rows", 1_000, 100_000, "float32", 0.1),
]

FULL = [
    Entry(TINY, ("gradient", "gradient function", "step", "moments")),
    Entry(SMALL, ("gradient", "gradient function", "step", "moments")),
    *both("in L1", [100], ("gradient",)),
    *both("in L2", [5, 20, 100, 1_000, 20_000], ("gradient",)),
    *both("in L3", [20, 100, 1_000], ("gradient",)),
    *both("in memory", [16, 32, 64, 100], ("gradient", "moments")),
    *both("in memory", [2, 4, 8], ("moments",)),
    *both("in memory", [20, 128, 250, 500, 1_000, 2_500, 20_000, 50_000], ("gradient",)),
    Entry(dense("in memory", 10_000, "float32"), ("gradient",)),
    *both("in memory", [20, 100, 1_000], ("gradient",), order="F"),
    Entry(dense("in L2", 100, "float32"), ("step",)),
    Entry(dense("in memory", 100, "float32"), ("step",)),
    *both("beyond L3", [250, 1_000], ("moments",)),
    *both("in L3", [20, 100], ("SGD epoch", "SGD epoch in stretches")),
    *both("in memory", [20, 100], ("SGD epoch", "SGD epoch in stretches")),
    *(Entry(problem, ("fit",)) for problem in REGRESSIONS),
    *(Entry(problem, ESTIMATORS) for problem in TABLES),
    *(Entry(problem, ("sparse gradient",)) for problem in SPARSE),
    *(Entry(problem, RULES) for problem in PARAMETERS),
    *(Entry(problem, ("gradient of a composition",)) for problem in COMPOSITIONS),
    Entry(TEXTBOOK, ("textbook derivative",)),
    *(Entry(problem, ("network step",)) for problem in NETWORK),
    Entry(BLOCKS, ("engine overhead",)),
    Entry(BLOCKS, ("engine overhead",), all_cores=True),
    *both("in memory", [16, 32, 100, 250, 500, 1_000], ("gradient",), all_cores=True),
]

QUICK = [
    Entry(TINY, ("gradient", "gradient function", "step", "moments")),
    Entry(SMALL, ("gradient", "moments", "fit", "SGD epoch", *ESTIMATORS)),
    Entry(Problem("quick", 2_000, 20, "float32"), ("gradient", "step", "moments", "SGD epoch")),
    Entry(Problem("quick", 2_000, 20, "float32", "F"), ("gradient",)),
    Entry(sparse("quick", 2_000, 500, "float64", 0.01), ("sparse gradient",)),
    Entry(PARAMETERS[0], RULES),
    Entry(COMPOSITIONS[1], ("gradient of a composition",)),
    Entry(TEXTBOOK, ("textbook derivative",)),
    *(Entry(problem, ("network step",)) for problem in NETWORK),
    Entry(BLOCKS, ("engine overhead",)),
    Entry(Problem("quick", 50_000, 100, "float32"), ("gradient",), all_cores=True),
]

#: What `compare.py` looks at: each floor of the house once.
COMPARED = [
    Entry(TINY, ("gradient", "gradient function", "step")),
    Entry(SMALL, ("gradient", "fit", "estimator: fit", "estimator: SGD")),
    *both("in L2", [20, 100], ("gradient",)),
    *both("beyond L3", [20, 100, 1_000], ("gradient",)),
    Entry(dense("beyond L3", 100, "float32", "F"), ("gradient",)),
    Entry(dense("in L3", 20_000, "float32"), ("gradient",)),
    Entry(dense("in L3", 20, "float64"), ("moments", "SGD epoch")),
    Entry(dense("in L3", 250, "float64"), ("moments",)),
    Entry(SPARSE[0], ("sparse gradient",)),
    *(Entry(problem, ("update: SGD", "update: Adam")) for problem in PARAMETERS[:2]),
    *(Entry(problem, ("gradient of a composition",)) for problem in COMPOSITIONS),
    Entry(TEXTBOOK, ("textbook derivative",)),
    Entry(NETWORK[1], ("network step",)),
    Entry(BLOCKS, ("engine overhead",)),
]


def compared(cases: list[str]) -> list[tuple[str, Problem]]:
    """What `compare.py` is to look at of these cases."""
    return [(case, entry.problem) for entry in COMPARED for case in entry.cases if case in cases]


PLANS = {"FULL": (FULL, contest.FULL), "QUICK": (QUICK, contest.QUICK)}
