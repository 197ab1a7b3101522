"""Which solver `solver="auto"` takes, by a cost model in the open.

The unit is one pass over X, which memory bounds. Forming the Gram matrix costs n d^2 multiplications and additions and
its Cholesky factor d^3 / 3: in passes, GRAM_PASSES * d * (1 + d / 3n). Where there are no more rows than columns it is
the products of rows instead, n and d in each other's place. Gradient descent costs one pass an iteration, and the
number of its iterations grows with the condition number of the data, which is not known beforehand and is rarely below
a thousand for columns as they come. A pass over sparse rows takes the time of their entries only, the Gram matrix that
of rows filled with zeros; products of sparse rows cost a pass each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastgd._csr import CSR
from fastgd.objective import MSE
from fastgd.solvers import gd, moments
from fastgd.solvers._interface import Solver

__all__ = ["SOLVERS", "Choice", "choose"]


class Method(NamedTuple):
    """A solver, and the options of `fit` that it has a use for, besides those that all have."""

    solve: Solver
    uses: frozenset[str]


class Choice(NamedTuple):
    """A solver by its name, and why it was taken, in one line."""

    solver: str
    reason: str


SOLVERS: dict[str, Method] = {
    "moments": Method(moments.solve, moments.USES),
    "gd": Method(gd.solve, gd.USES),
}

#: Time of the Gram matrix over the time of a pass, for each column of X (measured; see the README's table).
GRAM_PASSES = 0.08
#: Time of an entry of sparse rows over that of an element of dense ones, in a pass.
SPARSE_ENTRY = 4
#: Iterations that gradient descent is expected to need.
EXPECTED_ITERATIONS = 5_000
#: Bytes of the Gram matrix and its factor beyond which the moments are not formed.
MOMENTS_BYTES = 1 << 32


def choose(objective: MSE) -> Choice:
    """The cheaper of the solvers for this objective."""
    order, length = sorted(objective.X.shape)
    products = GRAM_PASSES * order * dense_passes(objective.X)
    if isinstance(objective.X, CSR) and len(objective.X) == order:
        products = order
    in_passes = products + GRAM_PASSES * order * order / (3 * length) * dense_passes(objective.X) + 2
    figures = f"the second moments take {in_passes:.3g} passes over X, {EXPECTED_ITERATIONS:,} are expected of descent"
    if in_passes < EXPECTED_ITERATIONS and 3 * 8 * order * order < MOMENTS_BYTES:
        return Choice("moments", figures)
    return Choice("gd", figures)


def dense_passes(X: np.ndarray | CSR) -> float:
    """A pass over X with all its zeros, in passes over X."""
    return X.shape[0] * X.shape[1] / (SPARSE_ENTRY * max(len(X.data), 1)) if isinstance(X, CSR) else 1.0
