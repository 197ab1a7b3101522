"""Accelerated proximal gradient descent, for l1 and elastic net.

    F(w, b) = sum_i s_i (x_i.w + b - y_i)^2 / S + l1 |w|_1 + l2 |w|^2

In standardised columns, a step moves against the gradient of the smooth part and shrinks each coefficient towards zero:

    v = u + momentum (u - u_before)
    u <- shrink(v - lr grad(v), lr l1 scale)        shrink(u, p) = sign(u) max(|u| - p, 0)

with the momentum of Beck and Teboulle (SIAM J. Imaging Sci. 2, 2009), given up when it points uphill (O'Donoghue and
Candès, Found. Comput. Math. 15, 2015). The gradient is affine, so that at v it is known from the last two iterates, and
each pass over X serves the iterate that is shown. Those steps are made one by one where someone wants to see them (a
callback, a validation set, tol=0) or l1 is 0.

Otherwise few columns matter, and X is read for them only now and then (working sets: Johnson and Guestrin, "Blitz",
ICML 2015; Massias, Gramfort and Salmon, "Celer", ICML 2018). An iteration takes in columns that want to enter, at most
as many as are in use; forms their products; minimises F over them by the same steps on that small matrix (`_lasso`);
and makes one pass over X, which gives the exact gradient by all columns: the certificate, and what the next iteration
starts from, so that neither the rounding of the products nor columns left out stay in the result. Where many columns
want to enter at the start, some accelerated steps over all of them, which are iterations too, tell which ones will.

Where columns are few beside the rows, one pass forms the second moments, which hold the products of all columns and the
gradient at zeros (the covariance updates of Friedman, Hastie and Tibshirani, J. Stat. Softw. 33, 2010, section 2.2);
one pass more then gives the certificate, and corrects what the moments' rounding has left, if it is too much.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count

import numpy as np

from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._costs import narrow
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._lasso import PenalisedQuadratic, soft_threshold
from fastgd.solvers._monitor import Monitor
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers._working_set import Columns, ColumnsOfMoments, WorkingSet
from fastgd.solvers.moments import gathered, geometry_of, loss_and_grad

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"l1"})
#: Columns that may enter at once without a closer look.
FEW_COLUMNS = 64
#: Rows for each column that wants to enter, at least, for steps over all columns to tell soon which ones do.
ROWS_PER_COLUMN = 4
#: Passes of a closer look, at most, and the share of the support that a step changes when it has settled.
MOST_PASSES = 10
SETTLED = 0.2
#: Of the support: how many columns that are near entering are taken in with those that must.
RESERVE = 0.1
#: Bytes of the products of the largest working set. Where they are more than CHEAP_BYTES and than a share of X, steps
#: over all columns are tried first: they are not much slower, and may do without the products.
MOST_BYTES = 1 << 29
CHEAP_BYTES = 1 << 24
PRODUCTS_SHARE = 8
TRIAL_STEPS = 100
#: Of `tol`, or the level of rounding, the multiple above which a start at zeros is not the end, and needs no pass.
FAR_FROM_END = 100
#: Of what `tol` allows, what the minimum over a working set may leave.
INNER_SHARE = 0.01
#: Of the largest eigenvalue, found from below and to this share: what a step is cautious by.
CAUTION = 1.01


class Standardised(Coordinates):
    """Columns scaled so that the diagonal of half the Hessian, l2 included, is one."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        if geometry.l2 > 0:
            self.deviations = np.sqrt(self.deviations**2 + geometry.l2)
            self.scale = np.where(self.scale > 0, 1 / self.deviations, 0.0)

    def gradient(self, grad: np.ndarray) -> np.ndarray:
        """As the gradient by u of any coordinates, with fewer arrays on the way."""
        d = len(self.scale)
        slope = grad.copy()
        if self.geometry.fit_intercept:
            slope[:d] -= self.geometry.means * grad[d]
        slope[:d] *= self.scale
        return slope


@dataclass(frozen=True)
class Point:
    """Parameters, F there, and the gradient of its smooth part, in the user's units and standardised."""

    w: np.ndarray
    smooth: float
    loss: float
    grad: np.ndarray
    u: np.ndarray
    slope: np.ndarray


class Penalised(ABC):
    """F in standardised columns.

    Parameters
    ----------
    coordinates : Coordinates
    l1 : float
    """

    def __init__(self, coordinates: Coordinates, l1: float) -> None:
        self.coordinates, self.l1 = coordinates, l1
        self.penalty = l1 * coordinates.scale   # the factors of |u_j|
        self.n_features = len(coordinates.scale)

    @abstractmethod
    def smooth(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """F less l1 |w|_1, and its gradient."""

    def at(self, w: np.ndarray) -> Point:
        """F and its gradient at w."""
        return self.known(w, *self.smooth(w))

    def known(self, w: np.ndarray, smooth: float, grad: np.ndarray) -> Point:
        """The same, given its smooth part and the gradient of that."""
        loss = smooth + self.l1 * float(np.abs(w[: self.n_features]).sum())
        return Point(w, smooth, loss, grad, self.coordinates.standardised(w), self.coordinates.gradient(grad))

    def near(self, u: np.ndarray) -> Point:
        """The same, given standardised parameters."""
        return self.at(self.coordinates.parameters(u))


class Problem(Penalised):
    """F of the rows of an objective.

    Parameters
    ----------
    objective : MSE
    coordinates : Coordinates
    l1 : float
    """

    def __init__(self, objective: MSE, coordinates: Coordinates, l1: float) -> None:
        super().__init__(coordinates, l1)
        self.objective = objective

    def smooth(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """One pass over X."""
        return self.objective.value_and_grad(w, out=np.empty(len(w)))

    def at(self, w: np.ndarray) -> Point:
        """At w rounded to what the dtype of X can hold, so that what is certified is what is returned."""
        if self.objective.dtype != np.float64:
            d = self.n_features
            w = np.append(w[:d].astype(self.objective.dtype), w[d:])
        return super().at(w)


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Minimise F over working sets, or by steps over all columns."""
    at_once = options.l1 > 0 and options.tol > 0 and monitor.plain
    moments = gathered_at_once(objective, monitor) if at_once and narrow(objective) else None
    problem = Problem(objective, Standardised(monitor.geometry), options.l1)
    w = options.w0.copy()
    w[: problem.n_features][problem.coordinates.scale == 0] = 0.0   # of columns that do not vary
    end = problem.at(w) if moments is None else start(problem, moments, w, options.tol)
    if at_once:
        end, reason = by_working_sets(problem, end, options.tol, monitor, moments)
    elif not (reason := monitor.see(end.w, end.loss, end.grad)):
        end, reason = by_steps(problem, end, options.tol, monitor)
    return monitor.outcome(end.w, end.loss, reason, grad=end.grad)


# ---- working sets ----------------------------------------------------------------------------------------------------


def gathered_at_once(objective: MSE, monitor: Monitor) -> SecondMoments:
    """The second moments, in one pass, and from them the geometry."""
    monitor.extra_passes += 1
    moments = gathered(objective, np.dtype(np.float64))
    monitor.geometry = geometry_of(
        moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype, l1=monitor.l1
    )
    return moments


def start(problem: Problem, moments: SecondMoments, w: np.ndarray, tol: float) -> Point:
    """The first point: at zeros without a pass, unless they may be the end."""
    if not w.any():
        geometry = problem.coordinates.geometry
        point = problem.known(w, *loss_and_grad(moments, w, geometry.fit_intercept, geometry.l2))
        optimality, noise = geometry.measure(w, point.loss, point.grad)
        if optimality > FAR_FROM_END * max(tol, noise):
            return point
    return problem.at(w)


def by_working_sets(
    problem: Problem, point: Point, tol: float, monitor: Monitor, moments: SecondMoments | None = None
) -> tuple[Point, str]:
    """Minimise over the columns that matter; each iteration ends with a pass over X.

    Given second moments, over all columns, whose products these hold.
    """
    held: Columns = WorkingSet(problem.objective, problem.coordinates)
    if moments is not None:
        held = ColumnsOfMoments(moments, problem.coordinates)
        held.extend(np.flatnonzero(problem.coordinates.scale))
    least, stalls, most = np.inf, 0, len(problem.objective.X) // ROWS_PER_COLUMN
    costly = max(CHEAP_BYTES, problem.objective.X.nbytes // PRODUCTS_SHARE)
    scout = Scout(problem)
    loop = monitor.loop()
    point, held, scout, least, stalls, costly = loop.resumed(point, held, scout, least, stalls, costly)
    while True:
        loop.keep(point, held, scout, least, stalls, costly)
        if reason := monitor.see(point.w, point.loss, point.grad):
            break
        slack = slack_outside(held, point, problem)
        wanting = int(np.count_nonzero(slack < 0))
        if FEW_COLUMNS < wanting < most and not scout.settled and not len(held.columns):
            point = scout.next(point)
            continue
        stalls = 0 if wanting or monitor.optimality <= least / 2 else stalls + 1
        least = min(least, monitor.optimality)
        if stalls == 2:
            return point, "rounding keeps the gradient from falling further"
        entering = columns_to_add(slack, wanting, int(np.count_nonzero(point.u[: problem.n_features])))
        products = 8 * (len(held.columns) + len(entering)) ** 2
        if products > costly or products > MOST_BYTES:
            most_steps = TRIAL_STEPS if products <= MOST_BYTES else None
            point, reason = by_steps(problem, point, tol, monitor, most_steps)
            if reason:
                break
            costly = MOST_BYTES
            continue
        if len(entering):
            held.extend(entering)
            monitor.extra_passes += 1
        target = INNER_SHARE * tol * 2 * float(np.sqrt(point.smooth))
        point = problem.near(minimised(held, point, problem, target))
    return point, reason


def slack_outside(held: Columns, point: Point, problem: Penalised) -> np.ndarray:
    """By how much the columns that are not held stay below the slope at which they enter; below 0 they must."""
    u, slope = point.u[: problem.n_features], point.slope[: problem.n_features]
    slack = np.where(u != 0, -np.inf, problem.penalty - np.abs(slope))
    slack[problem.coordinates.scale == 0] = np.inf
    slack[held.columns] = np.inf
    return slack


class Scout:
    """Accelerated steps over all columns, until most zeros are those of the step before."""

    FIXED = frozenset({"problem"})

    def __init__(self, problem: Problem) -> None:
        self.problem, self.lipschitz, self.n_steps = problem, 2.0, 0
        self.steps = Acceleration(problem.penalty, self.lipschitz)
        self.settled = False

    def next(self, point: Point) -> Point:
        """The next point that is not uphill; or the same one, if none is found soon."""
        d = self.problem.n_features
        while True:
            new = self.problem.near(self.steps.next(point.u, point.slope))
            self.n_steps += 1
            self.settled = self.n_steps >= MOST_PASSES
            if new.loss <= point.loss:
                break
            if self.settled:
                return point
            step = new.u - point.u  # too long: the curvature along it tells how much
            curvature = float(step @ (new.slope - point.slope)) / float(step @ step)
            self.lipschitz = max(2 * self.lipschitz, curvature)
            self.steps = Acceleration(self.problem.penalty, self.lipschitz)
        changed = np.count_nonzero((new.u[:d] != 0) != (point.u[:d] != 0))
        self.settled = self.settled or bool(changed <= SETTLED * np.count_nonzero(new.u[:d]))
        return new


def columns_to_add(slack: np.ndarray, wanting: int, support: int) -> np.ndarray:
    """The columns that must enter, no more than a share of the support of those that are zero yet, and some near it."""
    if not wanting:
        return np.empty(0, np.intp)
    if len(slack) <= FEW_COLUMNS:
        return np.flatnonzero(slack < np.inf)
    certain = int(np.count_nonzero(slack == -np.inf))
    reserve = int(RESERVE * support)
    number = certain + min(wanting - certain, max(FEW_COLUMNS, support)) + reserve
    free = int(np.count_nonzero(slack < np.inf))
    if number >= free:
        return np.flatnonzero(slack < np.inf)
    return np.sort(np.argpartition(slack, number - 1)[:number])


def minimised(held: Columns, point: Point, problem: Penalised, target: float) -> np.ndarray:
    """The parameters that minimise F over the columns held, given its gradient at a point.

    But for a subgradient of this length at most.
    """
    columns, d = held.columns, problem.n_features
    new = point.u.copy()
    start = new[columns]
    right_side = held.matrix @ start - point.slope[columns] / 2
    quadratic = PenalisedQuadratic(held.matrix, right_side, problem.penalty[columns])
    new[columns] = quadratic.minimise(start, target)
    new[d:] -= point.slope[d:] / 2  # columns are centred: the intercept's best value stands alone
    return new


# ---- steps over all columns ------------------------------------------------------------------------------------------


def by_steps(
    problem: Problem, point: Point, tol: float, monitor: Monitor, most: int | None = None
) -> tuple[Point, str]:
    """Accelerated proximal steps over all columns, a pass over X for each, from a point that has been shown.

    After `most` steps, the last point, which has not been shown, and no reason to end.
    """
    largest = problem.coordinates.lipschitz(problem.objective, rtol=CAUTION - 1)
    steps = Acceleration(problem.penalty, CAUTION * largest)
    loop = monitor.loop()
    point, steps, first = loop.resumed(point, steps, 1)
    for step in count(first):
        new = problem.near(steps.next(point.u, point.slope))
        if tol > 0 and np.array_equal(new.w, point.w):
            return point, "the parameters stopped changing"
        point = new
        if step == most:
            break
        if reason := monitor.see(point.w, point.loss, point.grad):
            return point, reason
        loop.keep(point, steps, step + 1)
    return point, ""


class Acceleration:
    """Proximal gradient steps with momentum, from one iterate and its gradient to the next.

    Parameters
    ----------
    penalty : ndarray of shape (d,)
        Factors of |u_j|; what follows in u, the intercept, has none and moves to where it is best.
    lipschitz : float
        No less than the largest eigenvalue of the Hessian.
    """

    FIXED = frozenset({"penalty"})

    def __init__(self, penalty: np.ndarray, lipschitz: float) -> None:
        self.penalty, self.lr = penalty, 1 / lipschitz if lipschitz > 0 else 1.0
        self.t = 1.0
        self.before: tuple[np.ndarray, np.ndarray] | None = None
        self.ahead = np.empty(0)

    def next(self, u: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """The next iterate."""
        d = len(self.penalty)
        ahead, ahead_slope = u, slope
        if self.before is not None:
            moved, turned = u - self.before[0], slope - self.before[1]
            self.t, t = (1 + np.sqrt(1 + 4 * self.t**2)) / 2, self.t
            if float((u - self.ahead) @ moved) < 0:
                self.t = t = 1.0
            momentum = (t - 1) / self.t
            ahead, ahead_slope = u + momentum * moved, slope + momentum * turned
        self.before, self.ahead = (u, slope), ahead
        new = ahead - self.lr * ahead_slope
        new[:d] = soft_threshold(new[:d], self.lr * self.penalty)
        new[d:] = ahead[d:] - ahead_slope[d:] / 2
        return new
