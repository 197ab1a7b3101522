"""Epochs of stochastic solvers: every row once in random order, and in the metric of standardised columns.

Rows are shuffled as far as it matters: those that do not fit into the caches are shuffled by stretches of a few
kilobytes, and then within windows of many stretches, which a descent hardly tells from a uniform order and memory
delivers twice as fast (CorgiPile; Xu et al., SIGMOD 2022), unless rows that follow each other are alike. The order is
made piece by piece, so that it takes little memory beside narrow rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastgd import _saga, _sgd
from fastgd._blocks import Native
from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock
from fastgd._spectrum import largest_eigenvalue
from fastgd.errors import DivergenceError
from fastgd.objective import MSE
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._interface import Options
from fastgd.solvers._monitor import BLOW_UP, Monitor

__all__ = ["Epochs", "Metric", "blown_up", "diverged", "evaluate", "run_epoch"]

#: Bytes of X below which rows are shuffled singly,
CACHED = 1 << 24
#: and of the stretches and windows beyond.
STRETCH = 1 << 13
WINDOW = 1 << 17
#: Rows whose order is made at once: few enough that the memory is used again.
ORDERED = 1 << 15
#: Pairs of rows that show whether neighbours are alike.
PAIRS = 512
#: The least number of rows of one step while it falls, and what part of the rows before them they are beyond it.
SPAN, SPANS = 256, 2
#: Terms of `_saga.run` that stand beside the rows' weights.
WEIGHED = frozenset({"l1", "l2", "drift", "intercept_drift"})

Sequence_ = TypeVar("Sequence_", list[Any], np.ndarray)


@dataclass
class Metric:
    """What the rows are measured in: means that are taken from them, and a factor for each coordinate's step.

    The factors are 1 / (a_j^2 + l2), with a_j the deviation of column j (its root mean square if it is not centred):
    the inverse diagonal of half the Hessian. In it a row has a mean square length of at most `spread`.
    """

    factors: np.ndarray
    means: np.ndarray | None
    spread: float

    @classmethod
    def standard(cls, objective: MSE, geometry: Geometry) -> Metric:
        """Of standardised columns. Sparse rows are not centred: they would lose their zeros."""
        sparse = isinstance(objective.X, CSR)
        lengths = geometry.raw_lengths if sparse else geometry.lengths
        squares = lengths**2 / geometry.weight
        curvature = squares + objective.l2
        factors = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=curvature > 0)
        spread = float(np.minimum(squares * factors, 1.0).sum()) + objective.fit_intercept
        return cls(factors, None if sparse or not objective.fit_intercept else geometry.means, max(spread, 1.0))

    @classmethod
    def plain(cls, n_features: int) -> Metric:
        """Of the columns as they are."""
        return cls(np.ones(n_features), None, float("nan"))

    def largest(self, objective: MSE) -> float:
        """The largest eigenvalue of half the Hessian in the metric, from below, a pass over X for each product."""
        size, d = objective.n_features + objective.fit_intercept, objective.n_features
        roots = np.sqrt(self.factors)

        def product(u: np.ndarray, out: np.ndarray) -> None:
            grad = objective.hessp(self.parameters(roots * u[:d], float(u[-1]), size))
            out[:d] = roots * self.slope(grad, d)
            out[d:] = grad[d:]

        return largest_eigenvalue(product, size, rtol=1e-2) / 2

    def slope(self, grad: np.ndarray, d: int) -> np.ndarray:
        """The gradient by v, given that by w."""
        return grad[:d] if self.means is None else grad[:d] - self.means * grad[d]

    def centred(self, w: np.ndarray, d: int) -> tuple[np.ndarray, float]:
        """(v, c) of parameters w: the coefficients, and the intercept of the centred columns; 0 if there is none.

        A constant column is one with the intercept, and its coefficient is zero.
        """
        coef = np.where(self.factors > 0, w[:d], 0.0)
        if len(w) == d:
            return coef, 0.0
        return coef, float(w[d]) + (0.0 if self.means is None else float(self.means @ w[:d]))

    def parameters(self, coef: np.ndarray, intercept: float, size: int) -> np.ndarray:
        """The `size` parameters w, the intercept last if one is fitted, of (v, c)."""
        if size == len(coef):
            return coef
        return np.append(coef, intercept - (0.0 if self.means is None else float(self.means @ coef)))


class Epochs:
    """The rows of an objective, in a new order each time.

    Parameters
    ----------
    objective : MSE
    seed : int
    weight : float
        The sum of the weights; an update is scaled by a row's over their mean.
    targets : bool, default True
        Whether the rows come with y, or with zeros.
    batch_size : int, default 1
        Pieces of the order hold whole batches, as far as the data is not converted piece by piece.
    """

    FIXED = frozenset({"objective", "targets", "batch_size", "weight", "neighbours_alike", "whole"})

    def __init__(
        self, objective: MSE, seed: int, weight: float, *, targets: bool = True, batch_size: int = 1
    ) -> None:
        self.objective, self.targets, self.batch_size = objective, targets, batch_size
        self.weight = weight / len(objective.X)
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.backwards, self.before = False, self.random.bit_generator.state
        self.neighbours_alike = len(objective.X) > ORDERED and neighbours_alike(objective)
        self.whole: Native | None = None
        if all(isinstance(block, (RowBlock, SparseBlock)) for block in objective.blocks):
            X, y, s = objective.X, objective.y if targets else None, objective.sample_weight
            self.whole = SparseBlock(X, y, s) if isinstance(X, CSR) else RowBlock(X, y, s)

    def __iter__(self) -> Iterator[tuple[Native, np.ndarray]]:
        """Blocks of rows and orders of them; all of these are an epoch."""
        if self.whole is not None:
            for order in self.orders():
                yield self.whole, order
            return
        blocks = self.objective.blocks
        places, seeds = self.random.permutation(len(blocks)), self.seeds(len(blocks))
        for place, seed in in_turn(list(zip(places, seeds, strict=True)), self.backwards):
            for k, piece in enumerate(blocks[place].pieces()):
                order = self.shuffled(len(piece), int(seed) + k)
                yield self.without_targets(piece), in_turn(order, self.backwards)

    def without_targets(self, piece: Native) -> Native:
        if self.targets:
            return piece
        if isinstance(piece, SparseBlock):
            return SparseBlock(piece.X, None, piece.s)
        return RowBlock(piece.X, None, piece.s)

    def seeds(self, count: int) -> np.ndarray:
        return self.random.integers(2**63, size=count)

    def shuffled(self, size: int, seed: int) -> np.ndarray:
        order = np.empty(size, np.intp)
        _sgd.shuffle(order, seed)
        return order

    def turn(self, *, back: bool) -> None:
        """Let the next epoch have an order of its own, or that of the one before, backwards."""
        if back:
            self.random.bit_generator.state = self.before
        self.backwards, self.before = back, self.random.bit_generator.state

    def orders(self) -> Iterator[np.ndarray]:
        """Pieces of an order of all rows."""
        n, row_bytes = len(self.objective.X), max(1, self.objective.X.nbytes // len(self.objective.X))
        if n * row_bytes <= CACHED or n <= max(ORDERED, self.batch_size) or self.neighbours_alike:
            yield in_turn(self.shuffled(n, int(self.seeds(1)[0])), self.backwards)
            return
        stretch, window = max(1, STRETCH // row_bytes), max(1, WINDOW // row_bytes)
        starts = self.shuffled(-(-n // stretch), int(self.seeds(1)[0])) * stretch
        together = max(ORDERED, self.batch_size) // stretch + 1
        pieces = [starts[first : first + together] for first in range(0, len(starts), together)]
        rest, left = np.empty(0, np.intp), len(pieces)
        for piece, seed in in_turn(list(zip(pieces, self.seeds(len(pieces)), strict=True)), self.backwards):
            rows = (piece[:, None] + np.arange(stretch)).ravel()
            rows = rows[rows < n] if piece.max() + stretch > n else rows
            _sgd.shuffle_within(rows, int(seed), window)
            rows = in_turn(rows, self.backwards)
            rows = np.concatenate([rest, rows]) if len(rest) else rows
            left -= 1
            ready = len(rows) // self.batch_size * self.batch_size if left else len(rows)
            rest = rows[ready:]
            if ready:
                yield rows[:ready]


def in_turn(values: Sequence_, backwards: bool) -> Sequence_:
    """A list or a vector, or its reverse, in memory of its own."""
    return values[::-1].copy() if backwards else values


def neighbours_alike(objective: MSE) -> bool:
    """Whether rows that follow each other are alike, as in sorted data and series: stretches then say little.

    As far as some pairs of them show: in y or a column, the mean square of their difference is less than half of what
    it is between any two rows (von Neumann, 1941).
    """
    places = np.linspace(0, len(objective.X) - 2, PAIRS, dtype=np.intp)
    first, second = (sampled_rows(objective, places + step) for step in (0, 1))
    spread = first.var(axis=0) + second.var(axis=0)
    with np.errstate(over="ignore"):
        return bool((((first - second) ** 2).mean(axis=0) < 0.5 * spread).any())


def sampled_rows(objective: MSE, places: np.ndarray) -> np.ndarray:
    """[X, y] of these rows, of sparse rows y alone: two of their zeros are alike."""
    y = np.asarray(objective.y[places], np.float64)[:, None]
    return y if isinstance(objective.X, CSR) else np.hstack([np.asarray(objective.X[places], np.float64), y])


def run_epoch(
    epochs: Epochs, state: _saga.State, metric: Metric, rate: float, *, fall: float = float("inf"),
    average_from: int = -1, **terms: Any,
) -> bool:
    """Update the state by all rows; with those from place `average_from` on, if that is not negative, averaged.

    The rate and the other terms of the objective are those of rows whose weights have a mean of one. After k rows the
    rate is rate / sqrt(1 + k / fall). Returns whether the parameters are finite.
    """
    objective, at, batch = epochs.objective, 0, epochs.batch_size
    weight = epochs.weight
    terms = {name: value * weight if name in WEIGHED else value for name, value in terms.items()}
    for block, order in epochs:
        for begin, end in spans(at, len(order), batch) if fall < float("inf") else [(0, len(order))]:
            start = max(0, average_from - at - begin) // batch * batch if average_from >= 0 else -1
            now = rate / math.sqrt(1 + (at + (begin + end) / 2) / fall)
            _saga.run(
                block, state, order[begin:end], now / weight, metric.factors, means=metric.means, batch_size=batch,
                intercept_step=float(objective.fit_intercept), average_from=start, **terms,
            )
        at += len(order)
    return bool(np.isfinite(state.coef).all() and np.isfinite(state.intercept))


def spans(at: int, count: int, batch: int) -> Iterator[tuple[int, int]]:
    """Runs of whole batches, longer and longer, of so many rows after `at` others."""
    begin = 0
    while begin < count:
        end = begin + max(SPAN, (at + begin) // SPANS) // batch * batch
        end = min(max(end, begin + batch), count)
        yield begin, end
        begin = end


def diverged(monitor: Monitor, w: np.ndarray, loss: float, grad: np.ndarray) -> bool:
    """Whether a loss is as much above that of the start as the monitor calls divergence, or not finite."""
    return not loss <= BLOW_UP * monitor.history.loss[0] and not monitor.vanishes(w, loss, grad)


def evaluate(objective: MSE, w: np.ndarray, l1: float) -> tuple[float, np.ndarray]:
    """F(w) with all penalties, and its gradient without that of l1, as float64; infinite where they overflow."""
    grad = np.empty(len(w))
    try:
        loss, _ = objective.value_and_grad(w, out=grad)
    except OverflowError:
        return float("inf"), np.full(len(w), np.inf)
    return loss + l1 * float(np.abs(w[: objective.n_features]).sum()), grad


def blown_up(objective: MSE, options: Options, monitor: Monitor, loss: float) -> DivergenceError:
    """The error of a descent by textbook steps that were too large.

    The safe step is (1 - momentum) / max_i (s_i |(x_i, 1)|^2 / mean s + l2): no row then moves the parameters beyond
    the plane on which its residual vanishes, so whatever the batches are, no update moves them away from the optimum of
    its rows.
    """
    longest = 0.0
    for block in objective.blocks:
        for piece in block.pieces():
            squares = row_squares(piece.X) + objective.fit_intercept
            longest = max(longest, float((squares if piece.s is None else squares * piece.s).max()))
    curvature = longest * len(objective.X) / monitor.geometry.weight + objective.l2
    limit = (1 - options.momentum) / curvature if curvature > 0 else float("inf")
    return DivergenceError(
        f"stochastic gradient descent diverges with lr={options.lr:.6g}: the loss rose from "
        f"{monitor.history.loss[0]:g} to {loss:g}. It converges for lr below {limit:.6g}; lr='auto' always does",
        lr=float(options.lr),
        max_lr=limit,
        w=monitor.best_w,
        loss=monitor.best_loss,
    )


def row_squares(X: np.ndarray | CSR) -> np.ndarray:
    """|x_i|^2 of each row, as double."""
    if isinstance(X, CSR):
        rows = np.repeat(np.arange(len(X)), np.diff(X.indptr))
        return np.bincount(rows, weights=np.square(X.data, dtype=np.float64), minlength=len(X))
    return np.einsum("ij,ij->i", X, X, dtype=np.float64)
