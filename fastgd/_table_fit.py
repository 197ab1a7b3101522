"""Fits of tables that may be larger than memory.

Rows are gathered as long as they take no more memory than they may; then a fit has all of `fastgd.fit` at its disposal.
When they become more, they go into second moments, of which there are (k + 2)^2 for k columns of X however many rows
there are, and so do the rows that follow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastgd import _validation as validate
from fastgd._design import Design, Rows
from fastgd.fit import Moments, fit, refuse_unused, step_size
from fastgd.objective import SecondMoments
from fastgd.result import FitResult
from fastgd.solvers import SOLVERS
from fastgd.solvers.moments import loss_and_grad

__all__ = [
    "FROM_MOMENTS",
    "Gathered",
    "Score",
    "TableFit",
    "fit_gathered",
    "free_memory",
    "gather",
    "held_out",
    "require_options",
]

#: Of the memory that is free, what the rows may take: they are copied once, and solvers need some too.
SHARE_OF_MEMORY = 4
#: Rows that do not stay are collected to so many bytes before their moments are taken: to add up the moments of many
#: columns takes as long as to form those of as many rows.
PANEL_BYTES = 1 << 23
#: Where the system does not tell how much memory is free.
ASSUMED_MEMORY = 1 << 30
#: Solvers that need no more than the second moments.
FROM_MOMENTS = ("auto", "moments")


@dataclass(frozen=True)
class Score:
    """How well a model predicts some rows.

    Attributes
    ----------
    n_rows : int
    mse : float
        Mean squared error, in units of y squared.
    r2 : float
        1 - mse / variance of y; NaN where all y are the same.
    """

    n_rows: int
    mse: float
    r2: float


@dataclass(frozen=True)
class TableFit:
    """A fit, how well it predicts the rows it has seen and those it has not, and how the rows were held.

    Attributes
    ----------
    result : FitResult
    train : Score
    test : Score or None
        None if no rows were held out.
    in_memory : bool
        Or as second moments.
    unseen : list of str
        Columns of X that are zero in all training rows: categories that only test rows have.
    """

    result: FitResult
    train: Score
    test: Score | None
    in_memory: bool
    unseen: list[str]


def held_out(first: int, n_rows: int, fraction: float) -> np.ndarray:
    """Which of the rows from `first` on are held out: those whose numbers' hashes are below `fraction`.

    The same whatever the batches are. The hash is the output function of SplitMix64 (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014) at the row's place in the sequence.
    """
    z = np.arange(first + 1, first + 1 + n_rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * 2.0**-53 < fraction


class Gathered:
    """Training and test rows: arrays up to so many bytes, second moments beyond.

    Parameters
    ----------
    n_columns : int
        Of X.
    fraction : float
        Of the rows, what is held out.
    budget : int
        Bytes.
    """

    def __init__(self, n_columns: int, fraction: float, budget: int) -> None:
        self.fraction, self.budget = fraction, budget
        self.n_rows = self.n_bytes = 0
        self.in_memory = True
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.varied = np.zeros(n_columns, dtype=bool)

    @cached_property
    def train(self) -> Moments:
        """Of the rows that did not stay; made for the first of them, since they may be larger than rows that stay."""
        return Moments(len(self.varied))

    @cached_property
    def test(self) -> Moments:
        return Moments(len(self.varied))

    def add(self, X: np.ndarray, y: np.ndarray) -> None:
        held = held_out(self.n_rows, len(y), self.fraction)
        self.varied |= X[~held].any(axis=0)
        self.n_rows += len(y)
        self.n_bytes += X.nbytes + y.nbytes
        self.parts.append((X, y, held))
        if self.n_bytes > (self.budget if self.in_memory else PANEL_BYTES):
            self.in_memory = False
            self.condense()

    def taken(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The parts in their order, each of them let go of when the next is asked for."""
        self.parts.reverse()
        while self.parts:
            yield self.parts.pop()

    def condense(self) -> None:
        """Let the rows that are here go into the second moments, as many at a time as make a panel."""
        panel: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for part in self.taken():
            panel.append(part)
            if sum(X.nbytes for X, _, _ in panel) > PANEL_BYTES or not self.parts:
                X, y, held = (np.concatenate(arrays) for arrays in zip(*panel, strict=True))
                panel.clear()
                for name, chosen in (("train", ~held), ("test", held)):
                    if chosen.any():
                        getattr(self, name).update(*((X, y) if chosen.all() else (X[chosen], y[chosen])))
        self.n_bytes = 0

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """X and y to train with, and to test with; the parts are let go of."""
        n_test = sum(int(held.sum()) for _, _, held in self.parts)
        sizes = (self.n_rows - n_test, n_test)
        (X, y), (X_test, y_test) = ((np.empty((size, len(self.varied))), np.empty(size)) for size in sizes)
        filled = np.zeros(2, dtype=int)
        for X_part, y_part, held in self.taken():
            for which, (X_all, y_all, chosen) in enumerate(((X, y, ~held), (X_test, y_test, held))):
                place = slice(filled[which], filled[which] + int(chosen.sum()))
                X_all[place], y_all[place] = X_part[chosen], y_part[chosen]
                filled[which] = place.stop
        return X, y, X_test, y_test


def require_options(*, solver: str, l1: float, l2: float, lr: float | str, max_iter: int) -> None:
    """Raise ValueError for options that `fastgd.fit` would refuse, before any rows are read for it."""
    given = {"lr": step_size(lr), "l1": validate.as_number(l1, "l1", least=0)}
    refuse_unused(validate.as_choice(solver, "solver", ("auto", *SOLVERS)), given)
    validate.as_number(l2, "l2", least=0)
    validate.as_positive_integer(max_iter, "max_iter")


def gather(
    rows: Rows,
    options: dict[str, Any],
    *,
    fraction: float = 0.0,
    memory: int | None = None,
    seen_so_far: Callable[[float, int], None] = lambda done, n_rows: None,
) -> Gathered:
    """Read the rows of a table, as `fit_gathered` needs them.

    Parameters
    ----------
    rows : Rows
        With a target.
    options : dict
        Of `fastgd.fit`.
    fraction : float, default 0.0
        Of the rows, what is held out, chosen by hashes of their numbers.
    memory : int, optional
        Bytes that the rows may take; by default a quarter of what is free.
    seen_so_far : callable, optional
        Called after each batch with the share of the file that has been read, and the number of rows.

    Raises
    ------
    ValueError
        If the file is not what it should be; if the rows need more memory than they may take, and the options more than
        their second moments.
    """
    budget = free_memory() // SHARE_OF_MEMORY if memory is None else memory
    gathered = Gathered(len(rows.design.columns), fraction, budget)
    for X, y, done in rows:
        gathered.add(X, y)
        if not gathered.in_memory:
            refuse_more_than_moments(rows, options, budget)
        seen_so_far(done, gathered.n_rows)
    return gathered


def fit_gathered(gathered: Gathered, design: Design, options: dict[str, Any]) -> TableFit:
    """Fit the rows of a table, and let go of them.

    Parameters
    ----------
    gathered : Gathered
    design : Design
        What their columns are.
    options : dict
        Of `fastgd.fit`.

    Raises
    ------
    ValueError
        If there are fewer than two rows to train with, or none to test with.
    """
    in_memory = gathered.in_memory
    fitted = fit_arrays(gathered, options) if in_memory else fit_moments(gathered, options)
    numbers = set(design.numbers)
    columns = zip(design.columns, gathered.varied, strict=True)
    unseen = [name for name, varied in columns if name not in numbers and not varied]
    return TableFit(*fitted, in_memory, unseen)


def refuse_more_than_moments(rows: Rows, options: dict[str, Any], budget: int) -> None:
    """Raise ValueError if a solver is to see the rows again."""
    solver = options.get("solver", "auto")
    if solver not in FROM_MOMENTS:
        raise ValueError(
            f"--solver {solver} needs the rows of {rows.table.path} in memory, where they may take {in_bytes(budget)} "
            f"and take more; raise --memory, choose fewer --features, or leave --solver out to fit from second moments"
        )


def require_rows(n_train: int, n_test: int, fraction: float) -> None:
    if n_train < 2:
        rows = "is 1 row" if n_train == 1 else "are 0 rows"
        raise ValueError(f"a fit needs at least two rows, and there {rows} to train with")
    if fraction > 0 and n_test == 0:
        raise ValueError(f"--test-fraction {fraction:g} of {n_train} rows leaves none to test with")


def fit_arrays(gathered: Gathered, options: dict[str, Any]) -> tuple[FitResult, Score, Score | None]:
    X, y, X_test, y_test = gathered.arrays()
    require_rows(len(y), len(y_test), gathered.fraction)
    result = fit(X, y, **options)
    return result, score(result, X, y), score(result, X_test, y_test) if len(y_test) else None


def fit_moments(gathered: Gathered, options: dict[str, Any]) -> tuple[FitResult, Score, Score | None]:
    gathered.condense()
    train, test = gathered.train, gathered.test if gathered.fraction > 0 else None
    require_rows(train.n_samples, test.n_samples if test else 0, gathered.fraction)
    result = train.fit(l1=options.get("l1", 0.0), l2=options.get("l2", 0.0))
    return result, score_of_moments(result, train), score_of_moments(result, test) if test else None


def score(result: FitResult, X: np.ndarray, y: np.ndarray) -> Score:
    return score_of(len(y), float(np.mean((result.predict(X) - y) ** 2)), float(np.var(y)))


def score_of_moments(result: FitResult, moments: SecondMoments) -> Score:
    """The same without the rows: both are quadratic forms of their second moments."""
    mse, _ = loss_and_grad(moments, np.append(result.coef, result.intercept), True, 0.0)
    about_mean = moments.about(moments.means)
    return score_of(moments.n_samples, mse, float(about_mean[-2, -2]) / moments.weight)


def score_of(n_rows: int, mse: float, variance: float) -> Score:
    return Score(n_rows, mse, 1 - mse / variance if variance > 0 else float("nan"))


# ---- memory ----------------------------------------------------------------------------------------------------------


def free_memory() -> int:
    """Bytes that this process can still get: the least of what the system has and what limits leave."""
    free = [ASSUMED_MEMORY]
    try:
        found = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
        free = [int(found) * 1024]
    except (OSError, IndexError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    return max(0, min([*free, *left_by_group(), *left_by_limit()]))


def left_by_group() -> Iterator[int]:
    """What the control group of this process may still take (Linux, version 2), and each group about it."""
    try:
        line = Path("/proc/self/cgroup").read_text().splitlines()[-1]
        group = Path("/sys/fs/cgroup") / line.rpartition("::")[2].lstrip("/")
    except (OSError, IndexError):
        return
    for folder in (group, *group.parents):
        if (folder / "memory.max").exists() and (folder / "memory.current").exists():
            most, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
            if most != "max":
                yield int(most) - int(used)


def left_by_limit() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            yield most - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return


def in_bytes(size: int) -> str:
    """A number of bytes in a unit that suits it."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size} bytes"
