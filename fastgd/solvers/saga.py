"""SAGA's variance reduction with a snapshot in place of its table: linear convergence at one row's cost an update.

An update of SAGA (Defazio, Bach and Lacoste-Julien, 2014) moves against a row's gradient, less the gradient that the
row had when it was last met, plus the mean of all of the latter: the noise of a single row cancels as they come
together. The table of what rows had is kept here as SVRG has it (Johnson and Zhang, 2013): all from one point, the
snapshot, whose exact gradient the pass that watches the loss gives once an epoch. For a linear model the difference of
the two gradients is (z_i.v) z_i with v the distance from the snapshot: neither a table of n numbers nor a second
product is needed.

The mean of the second half of an epoch's parameters is the next snapshot. Around it, constant steps on a quadratic are
without bias (Bach and Moulines, 2013), so an epoch of n rows of d columns divides the gap by some n / d (streaming
SVRG; Frostig et al., 2015).

Without l1, F is quadratic and an epoch's move a preconditioned gradient, wherever noise or an ill-conditioned problem
has left it: it is made conjugate to the last one and taken to the least F along it (flexible conjugate gradients;
Notay, 2000), which takes one more pass where that is elsewhere. So F never rises but by its rounding.

Unless lr is a number, rows are centred, if they are not sparse, and measured in the metric of standardised columns
while they are read, in which one row can carry the parameters no further than to where its residual vanishes: neither
scale nor outliers make it diverge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastgd import _saga
from fastgd.objective import MSE
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._epochs import Epochs, Metric, blown_up, diverged, evaluate, run_epoch
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"lr", "l1", "random_state"})

#: The step times the mean square length of a row.
STEP = 0.5
#: Updates between two snapshots, at least, for each of what a row's mean square length takes, and
UPDATES = 10
#: passes over the rows for them, at most.
PASSES = 5
#: How far from 1 the best multiple of a move may be before it is worth a pass.
NEAR = 0.1
#: Epochs without a lower loss, each with half the step of the one before, after which there is none to be had.
STALLED = 8


@dataclass
class Point:
    """Parameters, and what F and its smooth part's gradient are there."""

    w: np.ndarray
    loss: float
    grad: np.ndarray


@dataclass
class Direction:
    """A direction, and the Hessian times it."""

    p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    Hp: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def conjugate_to(self, last: Direction) -> Direction:
        """Without what it has of the last direction in the metric of the Hessian."""
        bend = float(last.p @ last.Hp) if len(last.p) else 0.0
        if not bend > 0:
            return self
        share = float(self.p @ last.Hp) / bend
        return Direction(self.p - share * last.p, self.Hp - share * last.Hp)


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Epochs from snapshot to snapshot.

    With `lr="auto"`, 2 lr is half of 1 / E|z|^2, with z the standardised rows with a one for the intercept, and where a
    row is longer than that allows, the row's is shorter. From zeros, the first epoch has no snapshot to speak of and is
    one of stochastic gradient descent: it comes to within the noise of the rows however far the optimum is. A number is
    the step in the columns as they are.

    Raises
    ------
    DivergenceError
        If lr is a number and the loss passes 10^3 times its start.
    """
    at = Point(options.w0, *evaluate(objective, options.w0, options.l1))
    reason = monitor.see(at.w, at.loss, at.grad)
    auto, last, stalled = isinstance(options.lr, str), Direction(), 0
    metric = Metric.standard(objective, monitor.geometry) if auto else Metric.plain(objective.n_features)
    descent = Descent(objective, options, metric, monitor.geometry.weight)
    loop = monitor.loop()
    at, last, stalled, descent = loop.resumed(at, last, stalled, descent)
    while not reason:
        loop.keep(at, last, stalled, descent)
        if auto and monitor.n_iter == 0 and not options.w0.any():
            w = descent.towards_targets()
            new = Point(w, *evaluate(objective, w, options.l1))
        else:
            new, last = step(objective, at, descent.move(at), last, options.l1, conjugate=auto)
        monitor.extra_passes += descent.passes
        if not auto and diverged(monitor, new.w, new.loss, new.grad):
            raise blown_up(objective, options, monitor, new.loss)
        stalled = 0 if better(new, at, monitor.geometry) else stalled + 1
        if stalled and auto:
            descent.rate, last = descent.rate / 2, Direction()
        else:
            at = new
        reason = monitor.see(at.w, at.loss, at.grad)
        if not reason and options.tol > 0 and stalled == STALLED:
            reason = "the loss stopped falling"
    return monitor.outcome(at.w, at.loss, reason, grad=at.grad, lr=descent.rate / 2)


def better(new: Point, at: Point, geometry: Geometry) -> bool:
    """Whether F has fallen, or, where it is equal to its rounding, the gradient has."""
    if abs(new.loss - at.loss) > geometry.eps * at.loss:
        return new.loss < at.loss
    return geometry.measure(new.w, new.loss, new.grad)[0] < geometry.measure(at.w, at.loss, at.grad)[0]


class Descent:
    """Epochs of stochastic updates.

    Parameters
    ----------
    objective : MSE
    options : Options
    metric : Metric
    weight : float
        The sum of the weights.

    Attributes
    ----------
    rate : float
        Twice the step size.
    """

    FIXED = frozenset({"objective", "metric", "l1", "w0", "clamps", "passes"})

    def __init__(self, objective: MSE, options: Options, metric: Metric, weight: float) -> None:
        self.objective, self.metric, self.l1, self.w0 = objective, metric, options.l1, options.w0
        self.clamps = isinstance(options.lr, str)
        self.rate = STEP / metric.spread if isinstance(options.lr, str) else 2 * options.lr
        self.passes = min(max(1, round(UPDATES * metric.spread / len(objective.X))), PASSES) if self.clamps else 1
        self.plain = Epochs(objective, options.random_state, weight)
        self.reduced = Epochs(objective, options.random_state + 1, weight, targets=False)

    def towards_targets(self) -> np.ndarray:
        """The parameters after an epoch of stochastic gradient descent."""
        state = _saga.State(*self.metric.centred(self.w0, self.objective.n_features))
        self.run(self.plain, state, {})
        return self.metric.parameters(*state.average, len(self.w0))

    def move(self, at: Point) -> np.ndarray:
        """Where the rows, variance-reduced, move w to from the snapshot: by how much."""
        d = self.objective.n_features
        state = _saga.State(np.zeros(d))
        slope, intercept = self.metric.slope(at.grad, d) / 2, float(at.grad[-1]) / 2
        anchor, _ = self.metric.centred(at.w, d)
        self.run(self.reduced, state, {"drift": slope, "intercept_drift": intercept, "anchor": anchor})
        return self.metric.parameters(*state.average, len(at.w))

    def run(self, epochs: Epochs, state: _saga.State, terms: dict[str, Any]) -> None:
        """All passes between two snapshots, the second half of their updates averaged."""
        n = len(self.objective.X)
        first = self.passes * n // 2
        for turn in range(self.passes):
            begin = max(0, first - turn * n) if first < (turn + 1) * n else -1
            run_epoch(
                epochs, state, self.metric, self.rate, average_from=begin, l1=self.l1 / 2, l2=self.objective.l2,
                clamps=self.clamps, **terms,
            )


def step(
    objective: MSE, at: Point, move: np.ndarray, last: Direction, l1: float, *, conjugate: bool
) -> tuple[Point, Direction]:
    """The best point along the move made conjugate to the last one, or, with l1 too, just where the move leads."""
    w = at.w + move
    if not np.isfinite(w).all():
        return Point(at.w, float("inf"), at.grad), Direction()
    new = Point(w, *evaluate(objective, w, l1))
    if l1 > 0 or not conjugate:
        return new, last
    direction = Direction(move, new.grad - at.grad)
    straight, direction = direction, direction.conjugate_to(last)
    bend = float(direction.p @ direction.Hp)
    length = -float(at.grad @ direction.p) / bend if bend > 0 else 0.0
    best = at.w + length * direction.p
    gain = at.loss + 0.5 * length * float(at.grad @ direction.p)
    if bend > 0 and at.loss - new.loss < (1 - NEAR) * (at.loss - gain):
        return Point(best, *evaluate(objective, best, 0.0)), direction
    return new, straight
