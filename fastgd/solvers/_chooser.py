"""Which solver `solver="auto"` takes, by a cost model in the open.

It compares what the second moments and conjugate gradients take (`_costs` has the figures). The moments' cost is known
beforehand. That of conjugate gradients is one pass over X an iteration, and the number of iterations grows with the
square root of the condition number, which nothing tells before they have begun: EXPECTED_ITERATIONS of them are
allowed for. If they turn out to be more than the moments would have cost, `cg` hands over to these.

Where the moments take the time of many passes (dense float64 rows of some 600 columns and more), conjugate gradients
are tried before them: the first five iterations tell how fast they converge, and so which of the two is sooner done.

With a penalty l1 it is accelerated proximal gradient descent in any case.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fastgd._csr import CSR
from fastgd.objective import MSE
from fastgd.solvers import cg, fista, gd, moments, saga, sgd
from fastgd.solvers._costs import MOMENTS_BYTES, moments_bytes, moments_seconds, pass_seconds, worth_a_trial
from fastgd.solvers._interface import Solver

__all__ = ["SOLVERS", "Choice", "choose"]


class Method(NamedTuple):
    """A solver, and the options of `fit` that it has a use for, besides those that all have."""

    solve: Solver
    uses: frozenset[str]


class Choice(NamedTuple):
    """A solver by its name, why it was taken, in one line, and whether it is a trial before the moments are formed."""

    solver: str
    reason: str
    trial: bool = False


SOLVERS: dict[str, Method] = {
    "moments": Method(moments.solve, moments.USES),
    "cg": Method(cg.solve, cg.USES),
    "gd": Method(gd.solve, gd.USES),
    "fista": Method(fista.solve, fista.USES),
    "sgd": Method(sgd.solve, sgd.USES),
    "saga": Method(saga.solve, saga.USES),
}

#: Iterations that conjugate gradients are allowed for: to 1e-8 with a condition number of a thousand, standardised.
EXPECTED_ITERATIONS = 300


def choose(objective: MSE, l1: float = 0.0, *, may_try: bool = False) -> Choice:
    """The cheapest of the exact solvers for this objective.

    Parameters
    ----------
    objective : MSE
    l1 : float
    may_try : bool
        Whether conjugate gradients may be tried first, as nobody is to see each iterate or has more targets.
    """
    if l1 > 0:
        return Choice("fista", "of the exact methods the one for a penalty l1")
    choice = cheaper(
        moments_seconds(objective), pass_seconds(objective), moments_bytes(objective), isinstance(objective.X, CSR)
    )
    if may_try and choice.solver == "moments" and worth_a_trial(objective):
        return Choice("cg", f"tried before the second moments; {choice.reason}", trial=True)
    return choice


@lru_cache(maxsize=64)
def cheaper(direct: float, one: float, size: int, is_sparse: bool) -> Choice:
    """Of the moments, which take so many seconds and bytes, and conjugate gradients, of one pass an iteration.

    Kept for fits of the same size: to put it in words takes a tenth of the time of a small one.
    """
    iterative = EXPECTED_ITERATIONS * one
    descent = f"{in_words(iterative)} for conjugate gradients ({EXPECTED_ITERATIONS} passes of {in_words(one)})"
    if size > MOMENTS_BYTES:
        return Choice("cg", f"the second moments would take {size / 1e9:.3g} GB of memory; expected are {descent}")
    filled = " of rows filled with their zeros" if is_sparse else ""
    figures = f"expected are {in_words(direct)} for the second moments{filled}, {descent}"
    return Choice("moments" if direct <= iterative else "cg", figures)


def in_words(seconds: float) -> str:
    """A time in a unit that suits it."""
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
