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
ICML 2015; Massias, Gramfort and Salmon, "Celer", ICML 2018). An iteration takes the columns nearest to entering,
forms their products, minimises F over them by the same steps on that small matrix (`_lasso`), and makes one pass over
X, which gives the exact gradient by all columns: the certificate, and what the next iteration starts from, so that
neither the rounding of the products nor columns left out stay in the result.
"""

from __future__ import annotations

import numpy as np

from fastgd.objective import MSE
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._duality import Rounding, duality_gap
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._lasso import PenalisedQuadratic, soft_threshold
from fastgd.solvers._monitor import Monitor
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers._working_set import WorkingSet

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"l1"})
#: Columns of the first working set, at least, and bytes of the products of the largest.
FIRST_COLUMNS = 64
MOST_BYTES = 1 << 31
#: Of what `tol` allows, what the minimum over a working set may leave.
INNER_SHARE = 0.01
#: Of the largest eigenvalue, found from below and to this share: what a step is cautious by.
CAUTION = 1.01


class Standardised(Coordinates):
    """Columns scaled so that the diagonal of half the Hessian, l2 included, is one."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        varying = self.deviations > 0
        self.deviations = np.sqrt(self.deviations**2 + geometry.l2)
        self.scale = np.divide(1.0, self.deviations, out=np.zeros_like(self.deviations), where=varying)


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Minimise F over working sets, or by steps over all columns."""
    coordinates = Standardised(monitor.geometry)
    w = start(objective, coordinates, options)
    if options.l1 > 0 and options.tol > 0 and monitor.plain:
        return by_working_sets(objective, options, monitor, coordinates, w)
    return by_steps(objective, options, monitor, coordinates, w)


def start(objective: MSE, coordinates: Coordinates, options: Options) -> np.ndarray:
    """The first parameters, in numbers that a pass can hold."""
    w = in_dtype(options.w0, objective)
    w[: objective.n_features][coordinates.scale == 0] = 0.0
    return w


def in_dtype(w: np.ndarray, objective: MSE) -> np.ndarray:
    """Coefficients rounded to what X's dtype can hold, so that what is certified is what is returned."""
    d = objective.n_features
    rounded = w.astype(np.float64)
    rounded[:d] = w[:d].astype(objective.dtype)
    return rounded


def by_working_sets(
    objective: MSE, options: Options, monitor: Monitor, coordinates: Coordinates, w: np.ndarray
) -> Outcome:
    """Minimise over the columns that matter; each iteration ends with a pass over X."""
    d, l1 = objective.n_features, options.l1
    held = WorkingSet(objective, coordinates)
    least, stalls = np.inf, 0
    while True:
        smooth, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        loss = smooth + l1 * float(np.abs(w[:d]).sum())
        if reason := monitor.see(w, loss, grad):
            break
        u, slope = coordinates.standardised(w), coordinates.gradient(grad)
        entering = columns_to_add(held, u[:d], slope[:d], l1 * coordinates.scale)
        stalls = stalls + 1 if not len(entering) and monitor.optimality > least / 2 else 0
        least = min(least, monitor.optimality)
        if stalls == 2:
            reason = "rounding keeps the gradient from falling further"
            break
        if 8 * (len(held.columns) + len(entering)) ** 2 > MOST_BYTES:
            return by_steps(objective, options, monitor, coordinates, w, seen=True)
        if len(entering):
            held.extend(entering)
            monitor.extra_passes += 1
        w = in_dtype(coordinates.parameters(minimised(held, u, slope, options, smooth)), objective)
    return certified(objective, monitor, w, loss, smooth, grad, reason)


def columns_to_add(held: WorkingSet, u: np.ndarray, slope: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """The columns that must enter and some that are near it: none if F is least over those held."""
    outside = held.coordinates.scale > 0
    outside[held.columns] = False
    slack = np.where(u != 0, -np.inf, penalty - np.abs(slope))
    slack[~outside] = np.inf
    entering = int(np.count_nonzero(slack < 0))
    if not entering:
        return np.empty(0, np.intp)
    support = int(np.count_nonzero(u))
    room = max(FIRST_COLUMNS, 2 * support - len(held.columns), int(np.count_nonzero(slack == -np.inf)))
    count = min(room, int(np.count_nonzero(outside)))
    if count == len(u):
        return np.arange(count)
    return np.sort(np.argpartition(slack, count - 1)[:count])


def minimised(held: WorkingSet, u: np.ndarray, slope: np.ndarray, options: Options, smooth: float) -> np.ndarray:
    """The parameters that minimise F over the columns held, given its gradient at u."""
    columns, d = held.columns, len(held.coordinates.scale)
    new = u.copy()
    right_side = held.matrix @ u[columns] - slope[columns] / 2
    quadratic = PenalisedQuadratic(held.matrix, right_side, options.l1 * held.coordinates.scale[columns])
    new[columns] = quadratic.minimise(u[columns], INNER_SHARE * options.tol * 2 * np.sqrt(smooth))
    new[d:] -= slope[d:] / 2  # columns are centred: the intercept's best value stands alone
    return new


def by_steps(
    objective: MSE, options: Options, monitor: Monitor, coordinates: Coordinates, w: np.ndarray, seen: bool = False
) -> Outcome:
    """Accelerated proximal steps over all columns, a pass over X for each; `seen` says that w has been shown."""
    d = objective.n_features
    steps = Acceleration(options.l1 * coordinates.scale, CAUTION * coordinates.lipschitz(objective, rtol=CAUTION - 1))
    while True:
        smooth, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        loss = smooth + options.l1 * float(np.abs(w[:d]).sum())
        reason = "" if seen else monitor.see(w, loss, grad)
        if reason:
            break
        before, seen = w, False
        u = steps.next(coordinates.standardised(w), coordinates.gradient(grad))
        w = in_dtype(coordinates.parameters(u), objective)
        if options.tol > 0 and np.array_equal(w, before):
            reason = "the parameters stopped changing"
            break
    return certified(objective, monitor, w, loss, smooth, grad, reason)


class Acceleration:
    """Proximal gradient steps with momentum, from one iterate and its gradient to the next.

    Parameters
    ----------
    penalty : ndarray of shape (d,)
        Factors of |u_j|; what follows in u, the intercept, has none and moves to where it is best.
    lipschitz : float
        No less than the largest eigenvalue of the Hessian.
    """

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


def certified(
    objective: MSE, monitor: Monitor, w: np.ndarray, loss: float, smooth: float, grad: np.ndarray, reason: str
) -> Outcome:
    """The outcome at w, with the duality gap of the pass that was made there."""
    held = int(np.count_nonzero(w[: objective.n_features]))
    rounding = Rounding.of_pass(objective.dtype, len(objective.X), held)
    gap = duality_gap(monitor.geometry, w, smooth, grad, rounding)
    return monitor.outcome(w, loss, reason, gap_bound=gap)
