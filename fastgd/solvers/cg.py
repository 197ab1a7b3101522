"""Conjugate gradients on the normal equations, one pass over X for each iteration.

F is quadratic: with g its gradient and H its Hessian, an iteration goes along p to the lowest point of F there,

    a = -g.p / p.Hp,    u <- u + a p,    g <- g + a Hp,    F <- F + a g.p / 2,    p <- (|g|^2 / |g before|^2) p - g

(Hestenes and Stiefel, 1952; Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 5.2). Hp is a fused product
X'(s o Xp), so loss and gradient of every iterate follow without reading X again. u are the parameters of columns that
are centred, which takes the intercept out of the others' way, and scaled so that the diagonal of H is constant, which
is Jacobi's preconditioner: scale costs nothing. X is not copied and stays sparse.

Rounding parts the g that is carried along from the gradient. Now and then, and wherever g says that the fit has ended,
a pass takes the exact one in its place (residual replacement: van der Vorst and Ye, SIAM J. Sci. Comput. 22, 2000); the
direction is kept as long as the two nearly agree and F is not flat along it. So every figure that is certified comes
from a pass.

Of the many optima of a singular problem it gives the one nearest to the start by the lengths a_j |w_j|, a_j being the
deviation of column j: from zero the shortest in standardised columns, whatever the units. (`moments` gives the shortest
w, in the units there are.)

The a and the factors of p make up a tridiagonal matrix whose eigenvalues, the Ritz values, lie among those of H. They
tell the condition number, and it how many iterations are to come (Golub and Van Loan, Matrix Computations, 4th ed.,
section 11.3.4); where the second moments are cheaper than those, they finish the fit.

So they do in a trial (`_chooser`), which looks earlier and takes the larger of the estimates. It takes more than the
least that is asked for, to leave about as many digits as the moments would have.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fastgd.objective import MSE
from fastgd.solvers import moments
from fastgd.solvers._certificate import Geometry, judge
from fastgd.solvers._costs import MOMENTS_BYTES, moments_bytes, moments_seconds, pass_seconds
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor
from fastgd.solvers._scaling import Coordinates

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES: frozenset[str] = frozenset()
#: Iterations from one exact gradient to the next.
PERIOD = 50
#: A carried gradient further off than this, relatively, has lost the direction's meaning.
AGREES = 0.1
#: Curvature along a direction, of 2 along each axis, that counts as none: so many times the rounding.
FLAT = 4
#: A step that would take F, a sum of squares, below zero follows rounding: so many times that of the last exact F.
BELOW = 1e4
#: Losses may rise by this share from one exact figure to the next before the point is given up.
RISES = 0.01
#: Exact gradients without progress after which the fit ends.
STALLED = 3
#: Newest iterations that Ritz values are taken of.
RITZ = 200
#: Iterations that are not worth handing over for.
FEW = 100
#: Iterations of a trial after which, and after so many more each time, it is asked whether to hand over; the part of
#: the tolerance that ends it, and the part that it must have met where rounding does.
LOOK, DIGITS, ENOUGH = 5, 1e-4, 1e-2


class Jacobi(Coordinates):
    """Standardised columns, with the part of l2 in the diagonal of the Hessian: a_j^2 + l2 in the place of a_j^2.

    Parameters
    ----------
    geometry : Geometry
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.deviations = np.where(self.deviations > 0, np.sqrt(self.deviations**2 + geometry.l2), 0.0)
        self.scale = np.divide(1.0, self.deviations, out=np.zeros_like(self.scale), where=self.deviations > 0)


class Descent:
    """An iterate of conjugate gradients, what F is there, and where it goes next.

    Parameters
    ----------
    objective : MSE
    coordinates : Coordinates
    w0 : ndarray
    """

    FIXED = frozenset({"objective", "coordinates", "image"})

    def __init__(self, objective: MSE, coordinates: Coordinates, w0: np.ndarray) -> None:
        self.objective, self.coordinates = objective, coordinates
        self.image = np.empty(len(w0))
        self.u = coordinates.standardised(w0)
        self.w, self.loss, self.g = self.look(w0)
        self.exact = True
        self.p = -self.g
        self.steps: list[float] = []    # a
        self.turns: list[float] = []    # |g|^2 / |g before|^2
        self.known_condition = float("nan")     # by Ritz values before the last restart
        self.flat = False
        self.best = self.w, self.loss, self.g   # of what passes found
        self.best_square, self.idle = float(self.g @ self.g), 0

    def look(self, w: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """The parameters, F and the gradient by u there, by a pass."""
        loss, grad = self.objective.value_and_grad(w, out=self.image)
        return w, loss, self.coordinates.gradient(grad)

    def step(self) -> None:
        """To the lowest point along p."""
        pass_over = self.objective.hessp(self.coordinates.parameters(self.p), out=self.image)
        image = self.coordinates.gradient(pass_over)
        square, slope, curvature = float(self.g @ self.g), float(self.g @ self.p), float(self.p @ image)
        # Less than rounding makes of a direction in which F is flat is none: a step would lead anywhere.
        self.flat = not curvature > FLAT * self.eps * float(self.p @ self.p)
        self.flat = self.flat or self.loss - slope / curvature * slope / 2 < -self.rounding_of_carried_loss()
        step = 0.0 if self.flat else -slope / curvature
        self.u += step * self.p
        self.g = self.g + step * image
        self.loss += step * slope / 2
        turn = float(self.g @ self.g) / square if square > 0 else 0.0
        self.p = turn * self.p - self.g
        if not self.flat:
            self.steps.append(step)
            self.turns.append(turn)
        self.w = self.coordinates.parameters(self.u)
        self.exact = False

    def replace(self) -> None:
        """Put what a pass says in the place of what was carried along, at parameters that X's dtype can hold."""
        carried, best_loss = self.g, self.best[1]
        self.w, self.loss, self.g = self.look(self.rounded())
        lost = self.loss > best_loss * (1 + RISES) + self.rounding_of_loss()    # rounding has led it away
        if lost:
            self.w, self.loss, self.g = self.best
        elif self.loss <= best_loss:
            self.best = self.w, self.loss, self.g
        self.u = self.coordinates.standardised(self.w)
        self.exact = True
        square, off = float(self.g @ self.g), self.g - carried
        self.p -= off
        if lost or self.flat or not (float(off @ off) <= AGREES**2 * square and float(self.g @ self.p) < 0):
            self.known_condition = self.condition()
            self.p = -self.g
            self.steps, self.turns = [], []
        progress = self.loss < best_loss * (1 - 4 * self.eps) or square < self.best_square / 2
        self.idle = 0 if progress else self.idle + 1
        self.best_square = min(square, self.best_square)

    def rounding_of_loss(self) -> float:
        """What rounding the predictions makes of a loss of nothing."""
        geometry = self.coordinates.geometry
        return float(np.square(8 * self.eps * geometry.raw_y_length / np.sqrt(geometry.weight)))

    def rounding_of_carried_loss(self) -> float:
        """What rounding makes of a loss of nothing that was carried on from an exact one."""
        return BELOW * self.eps * self.best[1] + self.rounding_of_loss()

    @property
    def eps(self) -> float:
        return float(np.finfo(self.objective.dtype).eps)

    def rounded(self) -> np.ndarray:
        """The parameters as X's dtype holds them; the intercept goes with them, so that means do not tell."""
        d = len(self.coordinates.scale)
        w = self.w[:d].astype(self.objective.dtype).astype(np.float64)
        return np.append(w, self.u[d] - self.coordinates.geometry.means @ w) if len(self.u) > d else w

    def gradient(self) -> np.ndarray:
        """The gradient by w."""
        d = len(self.coordinates.scale)
        slope = self.coordinates.deviations * self.g[:d]
        if len(self.g) == d:
            return slope
        return np.append(slope + self.coordinates.geometry.means * self.g[d], self.g[d])

    def condition(self) -> float:
        """The condition number of the newest Ritz values, which is at most that of H; NaN before there are any."""
        a, b = np.array(self.steps[-RITZ:]), np.array(self.turns[-RITZ:])
        if not len(a) or not a.all() or not b.all():
            return self.known_condition
        beside = np.sqrt(b[:-1]) / a[:-1]
        diagonal = 1 / a + np.append(0.0, b[:-1] / a[:-1])
        values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        found = float(values[-1] / values[0]) if values[0] > 0 else float("inf")
        return float(np.fmax(found, self.known_condition))


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Descend along conjugate directions, each iteration one pass over X."""
    if options.trial:
        monitor.tol = options.tol * DIGITS
    descent = Descent(objective, Jacobi(monitor.geometry), options.w0)
    loop = monitor.loop()
    loop.resumed(descent)
    while True:
        loop.keep(descent)
        reason = monitor.see(descent.w, descent.loss, descent.gradient())
        if not descent.exact and (reason or descent.flat or monitor.n_iter % PERIOD == 0):
            descent.replace()
            reason = monitor.correct(descent.w, descent.loss, descent.gradient())
            if not reason and options.tol > 0 and descent.idle >= STALLED:
                reason = f"no progress at {STALLED} exact gradients in turn"
        if not reason and worth_handing_over(descent, options, monitor):
            return hand_over(descent, options, monitor)
        if reason:
            break
        descent.step()
    if options.trial:
        if not monitor.optimality <= ENOUGH * options.tol:
            return hand_over(descent, options, monitor)
        monitor.tol = options.tol
        monitor.converged, reason = judge(options.tol, monitor.optimality, monitor.noise)
    reason += in_words(descent)
    return monitor.outcome(descent.w, descent.loss, reason, grad=descent.gradient())


def in_words(descent: Descent) -> str:
    """What is known of the condition number of the scaled columns, to go with the reason for the end."""
    condition = descent.condition()
    if not 1.1 <= condition < np.inf:   # 1 or more it always is
        return ""
    unit = 10.0 ** (np.floor(np.log10(condition)) - 1)
    return f"; condition number {np.floor(condition / unit) * unit:.2g} or more"


# ---- handing over ----------------------------------------------------------------------------------------------------


def worth_handing_over(descent: Descent, options: Options, monitor: Monitor) -> bool:
    """Whether the second moments would finish sooner: asked at the 16th iteration and whenever twice as many are done.

    Not where every iterate is to be seen, or made: with a callback, a validation set, or tol = 0. In a trial sooner.
    """
    done = monitor.n_iter
    if options.trial:
        if done == 0 or done % LOOK:
            return False
        expected = float(np.nanmax(iterations_left(descent, monitor)[:2]))
        return moments_seconds(descent.objective) < expected * pass_seconds(descent.objective)
    if done < 16 or done & (done - 1) or options.tol == 0 or not monitor.plain:
        return False
    objective = descent.objective
    left = min(float(np.nanmin(iterations_left(descent, monitor))), options.max_iter - done)
    cheaper = moments_seconds(objective) < left * pass_seconds(objective)
    return left > FEW and cheaper and moments_bytes(objective) <= MOMENTS_BYTES


def iterations_left(descent: Descent, monitor: Monitor) -> tuple[float, float, float]:
    """What the condition number, the rate since half as many and the rank say.

    The error falls by 2 ((sqrt(κ) - 1) / (sqrt(κ) + 1))^k or faster, about 2 exp(-2k / sqrt(κ)); in exact arithmetic it
    is zero after as many iterations as H has different eigenvalues, in floating point after some times as many.
    """
    norms, done = monitor.history.grad_norm, monitor.n_iter
    condition = descent.condition()
    by_condition = np.sqrt(condition) / 2 * np.log(2 * monitor.optimality / monitor.tol)
    gained = np.log(max(norms[done // 2], 1e-300) / max(norms[-1], 1e-300))
    by_rate = np.log(monitor.optimality / monitor.tol) * (done / 2) / gained if gained > 0 else np.inf
    n, d = descent.objective.X.shape
    by_rank = 3 * (d if descent.objective.l2 > 0 else min(n, d)) - done
    return float(by_condition), float(by_rate), float(by_rank if by_rank > 0 else np.inf)


def hand_over(descent: Descent, options: Options, monitor: Monitor) -> Outcome:
    """Let the second moments finish the fit, from where it is."""
    done, monitor.tol = monitor.n_iter, options.tol
    monitor.history.drop_last()     # the moments show it again, as their start
    outcome = moments.solve(descent.objective, dataclasses.replace(options, w0=descent.w), monitor)
    reason = f"{outcome.stop_reason}; conjugate gradients handed over after {done} iterations{in_words(descent)}"
    return dataclasses.replace(outcome, n_iter=monitor.n_iter, stop_reason=reason)
