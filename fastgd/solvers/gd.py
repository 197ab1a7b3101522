"""Gradient descent, in the four steps of the textbook.

1. Initialise the parameters. 2. Compute the gradient of the loss. 3. Move against it: w <- w - lr * grad F(w).
4. Repeat until the gradient or the parameters stop changing.

A number for lr is the textbook's, in the columns as they are. Else the columns are standardised (`_scaling`), and a
rule finds the step. With a momentum m the third step is

    v <- m v - lr * grad F(w), w <- w + v             (Polyak, Some methods of speeding up the convergence, 1964)
    v <- m v - lr * grad F(w + m v), w <- w + v       (Nesterov, 1983)

where the latter needs no second pass: F is quadratic, so that the gradient ahead, at w + m v with v the change from w'
to w, is grad F(w) + m (grad F(w) - grad F(w')). On a direction with eigenvalue λ the first contracts for
lr λ < 2 (1 + m), the second for lr λ < 2 (1 + m) / (1 + 2 m).

Where many iterations are asked for and only the history looks at them, they are found through the second moments: the
same trajectory without a pass for each, step by step (`_recurrence`), or in the eigenbasis (`_trajectory`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._costs import descent_seconds
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor, divergence
from fastgd.solvers._recurrence import ACCURATE, Motion, Pace, Recurrence, Stretch
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers._trajectory import Point, Spectrum, Trajectory

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"lr", "momentum", "nesterov"})

#: Iterations that a fit with a tolerance is taken to need.
EXPECTED_ITERATIONS = 300
#: Features beyond which the Hessian is not formed.
MOST_FEATURES = 4096
#: How well the trajectory in the eigenbasis must agree with a pass at its end.
AGREEMENT = 1e-9
#: Steps of the first stretch, and by which factor stretches become longer and shorter.
FIRST_STRETCH, FACTOR = 64, 4
#: Relative precision of λmax by the Lanczos process, so that the step is the one that the eigenvalues give.
PRECISE = 1e-6
#: Share of the decrease that the slope promises with which Armijo's search is content, and the factor that cuts a step.
ENOUGH, CUT = 0.3, 0.5
#: The same of the nonmonotone search, and the losses that it looks back on (Raydan's).
LITTLE, LOOK_BACK = 1e-4, 10


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Descend with a fixed step, or with one that a rule finds anew for each.

    Raises
    ------
    DivergenceError
        If lr is not below its limit, before the first step; or if the loss should pass 10^3 times its start.
    """
    spectrum, recurrence = None, None
    way = cheapest_way(objective, options, monitor)
    standardised = isinstance(options.lr, str)
    if way != "passes":
        moments = moments_of(objective)
        monitor.extra_passes += 1
        recurrence = Recurrence(moments, objective, standardised=standardised)
        monitor.geometry = recurrence.geometry
        if way == "eigenbasis":
            spectrum = Spectrum(moments, objective, standardised=standardised)
    frame: Frame = Coordinates(monitor.geometry) if standardised else AsTheyAre()
    if options.lr in SEARCHES:
        return descend(objective, options, monitor, frame, SEARCHES[options.lr]())
    source = spectrum or recurrence
    rule = fixed_step(options, monitor, source.largest if source else largest_eigenvalue(objective, frame))
    start = shortcut(spectrum, options, monitor, frame, rule) if spectrum else None
    return descend(objective, options, monitor, frame, rule, start, spectrum, recurrence)


def cheapest_way(objective: MSE, options: Options, monitor: Monitor) -> str:
    """In which way the steps take the least time: "passes", "recurrence" or "eigenbasis".

    The moments serve a fixed step, in a fit of which nobody wants to see each iterate, and where there are more rows
    than columns; their eigenbasis a fixed momentum, too.
    """
    n, d = objective.X.shape
    if options.lr in SEARCHES or not monitor.plain or n <= d or d > MOST_FEATURES:
        return "passes"
    expected = min(options.max_iter, EXPECTED_ITERATIONS) if options.tol > 0 else options.max_iter
    seconds = descent_seconds(objective, expected)
    if options.nesterov and options.momentum == 0:
        del seconds["eigenbasis"]
    return min(seconds, key=seconds.__getitem__)


def moments_of(objective: MSE) -> SecondMoments:
    """The second moments, in double, from one pass over X."""
    moments = SecondMoments(objective.n_features, objective.n_threads, dtype=np.float64)
    return moments.update(objective.X, objective.y, objective.sample_weight)


def largest_eigenvalue(objective: MSE, frame: Frame) -> float:
    """λmax of the Hessian in these coordinates, by passes over X."""
    return objective.lipschitz() if isinstance(frame, AsTheyAre) else frame.lipschitz(objective, PRECISE)


def fixed_step(options: Options, monitor: Monitor, largest: float) -> FixedStep:
    """The step size asked for, if it is safe, or 1/λmax."""
    m = options.momentum
    if not options.nesterov:
        factor, monitor.rule = 2 * (1 + m), "2 (1 + momentum)/λmax" if m else "2/λmax"
    elif m:
        factor, monitor.rule = 2 * (1 + m) / (1 + 2 * m), "2 (1 + momentum)/((1 + 2 momentum) λmax)"
    else:
        factor, monitor.rule = 4 / 3, "4/(3 λmax)"
    limit = factor / largest if largest > 0 else float("inf")
    lr = options.lr if not isinstance(options.lr, str) else 1 / largest if largest > 0 else 1.0
    if lr >= limit:
        why = f"the step is not below {monitor.rule}"
        raise divergence(lr, limit, why, options.w0.copy(), float("nan"), monitor.rule)
    kind = Restarted if options.nesterov and not m else FixedStep
    return kind(lr, limit, m, options.nesterov)


def shortcut(
    spectrum: Spectrum, options: Options, monitor: Monitor, frame: Frame, rule: FixedStep
) -> Point | None:
    """The end of the descent by its trajectory, its iterates in the history; nothing if that is not accurate.

    A pass must agree with it. The rule is left ready to go on from there: should the exact gradient say that the
    tolerance is not met yet, the descent does.
    """
    trajectory = Trajectory(spectrum, options.w0, rule.lr, options.momentum, options.nesterov)
    if not trajectory.accurate(options.max_iter):
        return None
    landing = trajectory.run(options.max_iter, options.tol)
    point = look_at(spectrum.objective, frame, frame.standardised(landing.w), landing.w)
    if not abs(point.loss - landing.losses[-1]) <= AGREEMENT * point.loss + rounding_of(point, spectrum.geometry):
        return None
    monitor.history.extend(landing.losses[:-1], landing.norms[:-1])
    rule.change, rule.before = landing.change, landing.grad_before
    return point


def rounding_of(point: Point, geometry: Geometry) -> float:
    """What a pass may be off, of the loss."""
    reach = geometry.eps * geometry.reach(point.w) / np.sqrt(geometry.weight)
    return float(8 * reach * np.sqrt(point.loss) + (16 * reach) ** 2)


Look = Callable[[np.ndarray], Point]


class AsTheyAre:
    """The columns as they are, in the form of `Coordinates`."""

    def parameters(self, u: np.ndarray) -> np.ndarray:
        return u

    def standardised(self, w: np.ndarray) -> np.ndarray:
        return w

    def gradient(self, grad: np.ndarray) -> np.ndarray:
        return grad


Frame = AsTheyAre | Coordinates


class Rule(Protocol):
    """How one goes on from a point; with the step size that was last used, and the largest safe one."""

    lr: float
    max_lr: float

    def advance(self, point: Point, look: Look) -> Point: ...


class FixedStep:
    """A step of the same size each time, and momentum.

    Parameters
    ----------
    lr, max_lr, momentum : float
    nesterov : bool
    """

    FIXED = frozenset({"lr", "max_lr", "momentum", "nesterov"})

    def __init__(self, lr: float, max_lr: float, momentum: float, nesterov: bool) -> None:
        self.lr, self.max_lr, self.momentum, self.nesterov = lr, max_lr, momentum, nesterov
        self.change: np.ndarray | None = None
        self.before: np.ndarray | None = None
        self.t = 1.0

    def advance(self, point: Point, look: Look) -> Point:
        slope = self.ahead(point.slope, self.momentum)
        change = -self.lr * slope
        if self.change is not None and self.momentum > 0:
            change += self.momentum * self.change
        return self.move(point, change, look)

    def ahead(self, slope: np.ndarray, momentum: float) -> np.ndarray:
        """The gradient that counts: here, or at w + m v."""
        return slope + momentum * (slope - self.before) if self.nesterov and self.before is not None else slope

    def move(self, point: Point, change: np.ndarray, look: Look) -> Point:
        self.change, self.before = change, point.slope
        return look(point.u + change)


class Restarted(FixedStep):
    """Nesterov's method with a momentum that grows, and starts anew where it would go uphill.

    m_k = (t_k - 1) / t_{k+1}, t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2, and t = 1 again when the gradient and the change
    are at an acute angle: as fast as with the momentum that the condition number asks for, without knowing it
    (O'Donoghue and Candes, Adaptive restart for accelerated gradient schemes, 2015, the gradient scheme).
    """

    def advance(self, point: Point, look: Look) -> Point:
        grown = (1 + np.sqrt(1 + 4 * self.t**2)) / 2
        momentum, self.t = (self.t - 1) / grown, grown
        if self.change is not None:
            slope = self.ahead(point.slope, momentum)
            change = momentum * self.change - self.lr * slope
            if slope @ change <= 0:
                return self.move(point, change, look)
            self.t = 1.0
        return self.move(point, -self.lr * point.slope, look)


class Backtracking:
    """Armijo's line search: the step is cut until the loss falls by a share of what the slope promises.

    The first trial is twice the last step (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 3.1). F is
    quadratic: F(u - t g) = F - t g.g + t^2 q / 2, with q = g.Hg = (g.g - g.g') / t and g' the gradient at the first
    trial. That decides all further ones without a pass, and free of the rounding of F.
    """

    max_lr = float("nan")
    FIXED: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.lr = CUT    # of standardised columns, the eigenvalues are 2 or more on average

    def advance(self, point: Point, look: Look) -> Point:
        slope, square = point.slope, float(point.slope @ point.slope)
        self.lr /= CUT
        trial = look(point.u - self.lr * slope)
        curvature = (square - float(slope @ trial.slope)) / self.lr
        if self.lr * curvature / 2 <= (1 - ENOUGH) * square:
            return trial
        while self.lr * curvature / 2 > (1 - ENOUGH) * square:
            self.lr *= CUT
        return look(point.u - self.lr * slope)


class BarzilaiBorwein:
    """A step of 1 / the curvature along the last change: s.s / s.y, with s and y the changes of u and the gradient.

    Barzilai and Borwein, Two-point step size gradient methods, 1988, equation (6). A step is cut if the loss would not
    fall below the largest of the last ten by a share of what the slope promises (Raydan, The Barzilai and Borwein
    gradient method for the large scale unconstrained minimization problem, 1997).
    """

    max_lr = float("nan")
    FIXED: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.lr, self.following = 1.0, 1.0
        self.losses: deque[float] = deque(maxlen=LOOK_BACK)

    def advance(self, point: Point, look: Look) -> Point:
        slope, square = point.slope, float(point.slope @ point.slope)
        self.losses.append(point.loss)
        room = max(self.losses) - point.loss
        self.lr = self.following
        trial = look(point.u - self.lr * slope)
        curvature = (square - float(slope @ trial.slope)) / self.lr
        while self.lr * (self.lr * curvature / 2 - (1 - LITTLE) * square) > room:
            self.lr *= CUT
        if self.lr < self.following:
            trial = look(point.u - self.lr * slope)
        if curvature > 0:
            self.following = square / curvature
        return trial


#: Rules that find each step by itself.
SEARCHES: dict[float | str, Callable[[], Rule]] = {"backtracking": Backtracking, "bb": BarzilaiBorwein}


class Stretches:
    """Steps that are taken many at once, through the moments, as far as passes agree with them.

    Parameters
    ----------
    recurrence : Recurrence
    options : Options
    monitor : Monitor
    """

    FIXED = frozenset({"recurrence", "options", "monitor"})

    def __init__(self, recurrence: Recurrence, options: Options, monitor: Monitor) -> None:
        self.recurrence, self.options, self.monitor = recurrence, options, monitor
        self.length = FIRST_STRETCH

    def advance(self, point: Point, rule: FixedStep, look: Look) -> Point | None:
        """Where a stretch ends, the iterates before in the history; nothing if a single step is to be taken."""
        if rule.change is None or rule.before is None:
            return None
        pace = Pace(rule.lr, rule.momentum, rule.nesterov, isinstance(rule, Restarted))
        while (steps := min(self.length, self.options.max_iter - self.monitor.n_iter)) > 1:
            motion = Motion(rule.change, rule.before, rule.t)
            stretch = self.recurrence.follow(point, motion, pace, steps, self.options.tol)
            if len(stretch.losses) == 1:
                return None
            following = look(stretch.u)
            if self.agree(point, stretch, following, pace):
                self.monitor.history.extend(stretch.losses[:-1], stretch.norms[:-1])
                rule.change, rule.before, rule.t = stretch.motion
                self.length *= FACTOR
                return following
            self.length = len(stretch.losses) // FACTOR
        self.length = max(self.length, FACTOR)
        return None

    def agree(self, point: Point, stretch: Stretch, following: Point, pace: Pace) -> bool:
        """Whether a pass finds the loss and the gradient that the stretch ends with.

        A gradient that was off all along has moved the iterates by that, times lr, times 1 / (1 - momentum), at each
        of the steps, and the loss by the product with the gradient.
        """
        inertia = max(1 / (1 - pace.momentum), stretch.motion.t)
        off = stretch.slope - following.slope
        moved = pace.lr * inertia * len(stretch.losses) * max(abs(off @ point.slope), abs(off @ following.slope))
        error = max(abs(stretch.losses[-1] - following.loss), moved) - ACCURATE * following.loss
        return bool(max(error, stretch.excess) <= rounding_of(following, self.recurrence.geometry))


def descend(
    objective: MSE,
    options: Options,
    monitor: Monitor,
    frame: Frame,
    rule: Rule,
    start: Point | None = None,
    spectrum: Spectrum | None = None,
    recurrence: Recurrence | None = None,
) -> Outcome:
    """Go on from a point until the monitor has a reason to end."""
    def look(u: np.ndarray) -> Point:
        return look_at(objective, frame, u, frame.parameters(u))

    stretches = None if recurrence is None else Stretches(recurrence, options, monitor)
    point = look_at(objective, frame, frame.standardised(options.w0), options.w0) if start is None else start
    loop = monitor.loop()
    point, rule, stretches = loop.resumed(point, rule, stretches)
    while not (reason := monitor.see(point.w, point.loss, point.grad, lr=rule.lr, max_lr=rule.max_lr)):
        following = stretches.advance(point, rule, look) if stretches and isinstance(rule, FixedStep) else None
        if following is None:
            following = rule.advance(point, look)
        if options.tol > 0 and np.array_equal(following.w, point.w):
            reason = "the parameters stopped changing"
            break
        loop.keep(following, rule, stretches)
        point = following
    bound = gap_bound(objective, point, spectrum or recurrence)
    return monitor.outcome(point.w, point.loss, reason, grad=point.grad, lr=rule.lr, gap_bound=bound)


def look_at(objective: MSE, frame: Frame, u: np.ndarray, w: np.ndarray) -> Point:
    """One pass over X."""
    loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
    return Point(u, frame.gradient(grad), w, loss, grad)


def gap_bound(objective: MSE, point: Point, hessian: Spectrum | Recurrence | None) -> float:
    """What F exceeds its minimum by, at most, by the Hessian, where that is known; else NaN.

    It is so tight that it does not hold any more once coefficients are rounded to float32, and is left to float64.
    """
    if hessian is None or objective.dtype != np.float64:
        return float("nan")
    return hessian.gap_bound(point)
