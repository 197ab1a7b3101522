"""The optimum with an l1 penalty from second moments alone, for rows that have passed by.

    F(w, b) = sum_i s_i (x_i.w + b - y_i)^2 / S + l1 |w|_1 + l2 |w|^2

The sum is a quadratic of which the Gram matrix G of (x, y, 1) holds everything: F, its gradient, and the products of
any columns. The covariance updates of coordinate descent rest on that (Friedman, Hastie and Tibshirani, "Regularization
paths for generalized linear models via coordinate descent", J. Stat. Softw. 33, 2010, section 2.2), and here the
iterations of `fista`, with products with G in place of passes over X: columns that want to enter are taken in, F is
minimised over them (`_lasso`), and one product with G gives the gradient by all columns.

It ends when the gradient has vanished and the duality gap is within GAP of F; or when rounding keeps both from falling.
All is computed about a shift near the means (with an intercept: about the means), so that columns far from zero lose
nothing; what is lost where F is a small part of the mean square of y, `gap_of_moments` counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastgd.objective import ROUNDING, SecondMoments
from fastgd.solvers._certificate import Geometry, length, shortest
from fastgd.solvers._duality import gap_of_moments
from fastgd.solvers._interface import Outcome
from fastgd.solvers._lasso import soft_threshold
from fastgd.solvers._working_set import ColumnsOfMoments
from fastgd.solvers.fista import (
    INNER_SHARE,
    Penalised,
    Point,
    Standardised,
    columns_to_add,
    minimised,
    slack_outside,
)
from fastgd.solvers.moments import FLOAT64, geometry_of, loss_and_grad

if TYPE_CHECKING:
    from fastgd.solvers._monitor import History

__all__ = ["solve"]

#: Of F, what the duality gap may be at the end.
GAP = 1e-10
#: Of F, what moments summed in float32 may leave unknown and still be relied on.
UNKNOWN = 1e-2
#: Iterations in which no column wants to enter and the gap does not halve, after which rounding is why.
MOST_STALLS = 2
#: What a sum of two numbers is off by, relatively.
UNIT = 2.0**-53

UNRELIABLE = "moments summed in float32 do not tell this optimum; give Moments dtype=float64"


class ProblemOfMoments(Penalised):
    """F of the rows that moments stand for, in standardised columns.

    Parameters
    ----------
    moments : SecondMoments
    geometry : Geometry
        Of these moments, with the penalties.
    """

    def __init__(self, moments: SecondMoments, geometry: Geometry) -> None:
        super().__init__(Standardised(geometry), geometry.l1)
        self.moments, self.geometry = moments, geometry

    def smooth(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """One product with G."""
        loss, grad = loss_and_grad(self.moments, w, self.geometry.fit_intercept, self.geometry.l2)
        return max(loss, 0.0), grad     # where it is rounding alone, it may be below

    def gap(self, point: Point) -> float:
        """What F cannot exceed its minimum by.

        The moments' own rounding counts: of n terms that are added up one after the other it is some u sqrt(n / 3),
        as roundings are of either sign (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.8).
        """
        held = int(np.count_nonzero(point.w[: self.n_features]))
        off = UNIT * (math.sqrt(self.moments.n_samples) + held + 8)
        if self.moments.rounding > ROUNDING[FLOAT64]:
            off += self.moments.rounding
        return gap_of_moments(self.geometry, self.moments, point.w, point.smooth, point.grad, off)

    def slope_left(self, point: Point) -> float:
        """The length of the shortest standardised subgradient."""
        d = self.n_features
        coef, slope = point.u[:d], point.slope[:d]
        left = np.where(coef != 0, slope + self.penalty * np.sign(coef), soft_threshold(slope, self.penalty))
        return math.hypot(length(left), *point.slope[d:])

    def blur(self, point: Point) -> float:
        """The length of a standardised gradient of rounding alone, about."""
        lengths = np.sqrt(self.moments.gram.diagonal())
        total = float(lengths[:-2] @ np.abs(point.w[: self.n_features])) + float(lengths[-2])
        return self.geometry.eps * total * math.sqrt(self.n_features / self.geometry.weight)


def solve(
    moments: SecondMoments, *, fit_intercept: bool, l1: float, l2: float, tol: float, history: History
) -> Outcome:
    """Minimise F from zeros.

    Parameters
    ----------
    moments : SecondMoments
        Of some rows.
    fit_intercept : bool
    l1 : float
        Above 0.
    l2 : float
    tol : float
        Bound on the optimality at which it has converged.
    history : History
        Takes the iterates in.
    """
    exact = moments.rounding <= ROUNDING[FLOAT64]
    dtype = FLOAT64 if exact else np.dtype(np.float32)
    problem = ProblemOfMoments(
        moments, geometry_of(moments, fit_intercept=fit_intercept, l2=l2, dtype=dtype, l1=l1)
    )
    point, optimality, noise, gap, reason = descend(problem, tol, history)
    converged = optimality <= max(tol, noise)
    if not exact and gap > UNKNOWN * point.loss:
        converged, reason = False, UNRELIABLE
    return Outcome(
        w=point.w,
        loss=point.loss,
        optimality=optimality,
        gap_bound=gap,
        n_iter=len(history.loss) - 1,
        converged=converged,
        stop_reason=reason,
        lr=None,
        n_passes=0,
    )


def descend(problem: ProblemOfMoments, tol: float, history: History) -> tuple[Point, float, float, float, str]:
    """From zeros to where it ends: the point, its optimality and the level of rounding in it, the gap, and why."""
    d, geometry = problem.n_features, problem.geometry
    held = ColumnsOfMoments(problem.moments, problem.coordinates)
    point = problem.at(np.zeros(d + geometry.fit_intercept))
    least, stalls = math.inf, 0
    while True:
        history.add(point.loss, np.append(shortest(point.w[:d], point.grad[:d], problem.l1), point.grad[d:]))
        optimality, noise = geometry.measure(point.w, point.loss, point.grad)
        gap = problem.gap(point)
        slack = slack_outside(held, point, problem)
        wanting = int(np.count_nonzero(slack < 0))
        stalls = 0 if wanting or gap <= least / 2 else stalls + 1
        least = min(least, gap)
        if optimality <= tol and gap <= GAP * point.loss:
            reason = f"optimality is within tol={tol:g}, and the duality gap within {GAP:g} of F"
        elif stalls == MOST_STALLS or (not wanting and problem.slope_left(point) <= problem.blur(point)):
            reason = "the gradient is at rounding level"
        else:
            held.extend(columns_to_add(slack, wanting, int(np.count_nonzero(point.u[:d]))))
            target = INNER_SHARE * tol * 2 * math.sqrt(point.smooth) / 10**stalls
            point = problem.near(minimised(held, point, problem, max(target, problem.blur(point))))
            continue
        return point, optimality, noise, gap, reason
