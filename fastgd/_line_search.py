"""How far to go along a direction in which the loss falls.

Along x + t d the loss is φ(t), and its slope φ'(t) = grad f(x + t d).d, with φ'(0) < 0. A step is enough if

    φ(t) <= φ(0) + δ t φ'(0)                    (Armijo; Nocedal and Wright, Numerical Optimization, 2nd ed., 3.4)
    φ'(t) >= σ φ'(0)                            (Wolfe's condition on the curvature; 3.6b)

Near a minimum φ(t) - φ(0) is lost in the rounding of φ when φ' is not: a change of 1e-8 of the way to the minimum
changes φ by 1e-16 of itself. There, where φ(t) <= φ(0) + ε and ε is what rounding may amount to, Armijo's condition is
replaced by what it says of a quadratic φ,

    φ'(t) <= (2 δ - 1) φ'(0)                    (Hager and Zhang, A new conjugate gradient method with guaranteed
                                                 descent and an efficient line search, 2005, equation 4.1)

A step at which the loss or its gradient is NaN or infinite is too long, whatever the conditions say.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastgd._function import Function, Point

__all__ = ["CURVATURE", "ENOUGH", "Along", "Stuck", "Trial", "backtrack", "search"]

#: δ and σ of quasi-Newton methods (Nocedal and Wright, page 62).
ENOUGH, CURVATURE = 1e-4, 0.9
#: The least and the greatest share of a step that is left by a cut, and the share if the loss was not finite there.
LEAST_CUT, MOST_CUT, RETREAT = 0.1, 0.5, 0.1
#: How many times further to look, at least and at most, if the loss still falls.
LEAST_GROWTH, MOST_GROWTH = 2.0, 10.0
#: How near to the ends of an interval the next trial may be, as a share of it.
MARGIN = 0.1
#: Trials of one search; each third halves the interval, so that these narrow it to 1e-4, and far more as a rule.
MOST_TRIALS = 50


class Trial(NamedTuple):
    """A step, where it leads, and the slope there: NaN until it was asked for."""

    step: float
    point: Point
    slope: float = math.nan


class Stuck(Exception):
    """No step along a direction was enough: which direction, and the last that was tried.

    Attributes
    ----------
    gain : float
        What the loss was to fall by, where the method knows: infinite where it does not.
    """

    def __init__(self, along: Along, last: Trial) -> None:
        super().__init__()
        self.along, self.last = along, last
        self.gain = math.inf


class Along:
    """The loss along a direction.

    Parameters
    ----------
    function : Function
    start : Point
    direction : ndarray
        In which the loss falls.

    Attributes
    ----------
    bottomless : Trial or None
        The last trial at which the loss was -inf.

    Raises
    ------
    Stuck
        If the slope overflows or vanishes.
    """

    bottomless: Trial | None = None

    def __init__(self, function: Function, start: Point, direction: np.ndarray) -> None:
        self.function, self.direction = function, direction
        self.start = Trial(0.0, start, float(start.grad @ direction))
        if not -math.inf < self.start.slope < 0:
            raise Stuck(self, self.start)
        self.noise = function.noise(start.loss)

    def __call__(self, step: float, *, with_grad: bool = False) -> Trial:
        """A trial whose slope has not been asked for."""
        x = self.start.point.x + step * self.direction
        trial = Trial(step, self.function.look(x, with_grad=with_grad))
        if trial.point.loss == -math.inf:
            self.bottomless = trial
        return trial

    def with_slope(self, trial: Trial) -> Trial:
        """The trial and its slope: NaN if the loss or the gradient is not finite."""
        point = trial.point
        return trial._replace(slope=float(point.grad @ self.direction) if point.is_finite else math.nan)

    def is_shorter(self, trial: Trial) -> bool:
        """Whether the gradient is no longer than at the start."""
        return float(np.square(trial.point.grad).sum()) <= float(np.square(self.start.point.grad).sum())

    def moves(self, trial: Trial) -> bool:
        """Whether the step is long enough to change any parameter."""
        return not np.array_equal(trial.point.x, self.start.point.x)


def backtrack(
    along: Along, first: float, share: float = ENOUGH, reference: float | None = None, *, with_grad: bool = True
) -> Trial:
    """The first of ever shorter steps that fulfils Armijo's condition (Nocedal and Wright, algorithm 3.1).

    A step is cut to where the parabola through φ(0), φ'(0) and φ(t) is least (equation 3.58), within bounds. Gradients
    are asked for where the step is enough, as the first mostly is, or rounding decides.

    Parameters
    ----------
    along : Along
    first : float
        The first step.
    share : float, default ENOUGH
        δ.
    reference : float, optional
        What takes the place of φ(0) in a search that lets the loss rise for a while.
    with_grad : bool, default True
        Whether the gradient where the step leads will be needed, and must be finite.

    Raises
    ------
    Stuck
        If steps so short that they change nothing are not enough either.
    """
    at, slope = along.start.point.loss, along.start.slope
    level = at if reference is None else reference
    step, last = first, along.start
    while True:
        trial = along(step, with_grad=with_grad and step == first)
        if not along.moves(trial):
            raise Stuck(along, last)
        last = trial
        loss = trial.point.loss
        if loss <= level + share * step * slope and (trial.point.is_finite if with_grad else math.isfinite(loss)):
            return trial
        if abs(loss - level) <= along.noise:
            trial = along.with_slope(trial)
            if trial.slope <= (2 * share - 1) * slope and along.is_shorter(trial):
                return trial
        rise = loss - at - step * slope
        cut = -step * slope / (2 * rise) if math.isfinite(rise) and rise > 0 else RETREAT
        step *= min(max(cut, LEAST_CUT), MOST_CUT)


def search(along: Along, first: float) -> Trial:
    """A step that fulfils Wolfe's conditions, or the approximate ones of Hager and Zhang.

    The minimum is kept between a lower end, where φ falls and is not above φ(0) + ε, and an upper one, where φ rises or
    is above that (Hager and Zhang, the opposite slope condition, 4.4). The next trial is where the cubic through both
    ends' values and slopes is least (Nocedal and Wright, equation 3.59), within margins, and each third the middle.
    Until there is an upper end it is where the slope would vanish if it went on as before, within bounds.

    Raises
    ------
    Stuck
        If no trial was lower than the start.
    """
    low, high, before, last = along.start, None, along.start, along.start
    highest = along.start.point.loss + along.noise
    step = first
    for count in range(MOST_TRIALS):
        trial = along(step, with_grad=True)
        if not along.moves(trial):
            break
        last = trial = along.with_slope(trial)
        if is_enough(along, trial):
            return trial
        if trial.point.loss <= highest and trial.slope < 0:
            low, before = trial, low
        else:
            high = trial
        step = beyond(before, low) if high is None else between(low, high, halve=count % 3 == 2)
    if low.point.loss < along.start.point.loss:
        return low
    raise Stuck(along, last)


def is_enough(along: Along, trial: Trial) -> bool:
    """Wolfe's conditions, or the approximate ones within the rounding of the loss."""
    at, slope = along.start.point.loss, along.start.slope
    loss = trial.point.loss
    if not trial.slope >= CURVATURE * slope:
        return False
    if loss <= at + ENOUGH * trial.step * slope:
        return True
    return loss <= at + along.noise and trial.slope <= (2 * ENOUGH - 1) * slope


def beyond(before: Trial, low: Trial) -> float:
    """A longer step: where the slope, which was less steep at each trial, would vanish."""
    change = low.slope - before.slope
    growth = MOST_GROWTH
    if change > 0:
        growth = 1 - low.slope * (low.step - before.step) / (change * low.step)
    return low.step * min(max(growth, LEAST_GROWTH), MOST_GROWTH)


def between(low: Trial, high: Trial, *, halve: bool) -> float:
    """A step within the interval."""
    width = high.step - low.step
    if math.isnan(high.slope):      # not finite there
        return low.step + width * (RETREAT if low.step == 0 else 0.5)
    if halve:
        return low.step + 0.5 * width
    share = least_of_cubic(low.point.loss, low.slope * width, high.point.loss, high.slope * width)
    return low.step + width * min(max(share, MARGIN), 1 - MARGIN)


def least_of_cubic(at_0: float, slope_0: float, at_1: float, slope_1: float) -> float:
    """Where the cubic with these values and slopes at 0 and 1 has its minimum; 1/2 where it has none."""
    d = slope_0 + slope_1 - 3 * (at_1 - at_0)
    inner = d * d - slope_0 * slope_1
    if not inner >= 0:
        return 0.5
    root = math.sqrt(inner)
    bottom = slope_1 - slope_0 + 2 * root
    return 1 - (slope_1 + root - d) / bottom if bottom else 0.5
