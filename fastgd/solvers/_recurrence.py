"""Many steps of gradient descent at once: the same trajectory through the second moments, d^2 multiplications a step.

F is quadratic. With e the distance from an anchor, where a pass has found F and its gradient g,

    grad F = g + H e,        F = F(anchor) + e.(g + grad F) / 2,        H = (2/S) C + 2 m m' + 2 l2 I,

in which C are the second moments of the columns about their means m, so that large means cancel nothing in C, and in
m.e no more than in a pass. A column of ones has the mean 1 and no moments. Nothing of it needs the optimum or the
eigenvalues: collinear columns and exact fits are followed as any others.

A stretch of steps ends with a pass, whose figures are the next anchor and tell how far off the last iterate was: in F
from one end of the stretch to the other, and in the gradient, which had all of it to move the iterates. If that is more
than ACCURATE of F, and more than the rounding of a pass, the stretch is thrown away and one of a quarter its length is
tried; if it is less, the next one is four times as long. So a million steps take some twenty passes, and where the loss
falls by many digits (an exact fit, means of 10^4 deviations without an intercept) some more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastgd import _moments
from fastgd._spectrum import largest_eigenvalue
from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers._trajectory import Point, by_parameters, measure, standardised
from fastgd.solvers.moments import NormalEquations, geometry_of

__all__ = ["ACCURATE", "Motion", "Pace", "Recurrence", "Stretch"]

#: Relative errors of a loss beyond which a stretch is not believed.
ACCURATE = 1e-10
EPS = float(np.finfo(np.float64).eps)
#: Entries of the iterates that are kept at once, and the multiplications between two looks at Ctrl-C.
ENTRIES, PRODUCTS = 1 << 16, 1 << 26


class Pace(NamedTuple):
    """How a step follows from those before: as `fastgd.solvers.gd.FixedStep` has it, or, restarted, `Restarted`."""

    lr: float
    momentum: float
    nesterov: bool
    restarted: bool


class Motion(NamedTuple):
    """What an iterate has of those before: the last change, the slope before it, and the t of a momentum that grows."""

    change: np.ndarray
    before: np.ndarray
    t: float


class Stretch(NamedTuple):
    """Iterates in a row: losses, lengths of gradients, and of the last one its coordinates, slope and motion.

    And by how much the rounding of a loss, as a difference to the anchor's, exceeds ACCURATE of it at most.
    """

    losses: np.ndarray
    norms: np.ndarray
    excess: float
    u: np.ndarray
    slope: np.ndarray
    motion: Motion


class Recurrence:
    """Steps on the quadratic of a set of moments, in the columns as they are or in standardised ones.

    Parameters
    ----------
    moments : SecondMoments
    objective : MSE
    standardised : bool

    Attributes
    ----------
    geometry : Geometry
    """

    def __init__(self, moments: SecondMoments, objective: MSE, *, standardised: bool) -> None:
        d, l2 = moments.n_features, objective.l2
        self.moments, self.objective = moments, objective
        self.geometry = geometry_of(moments, fit_intercept=objective.fit_intercept, l2=l2, dtype=objective.dtype)
        self.coordinates, self.standardised = Coordinates(self.geometry), standardised
        scale = self.coordinates.scale if standardised else np.ones(d)
        means = moments.means
        size = d + objective.fit_intercept
        self.matrix, self.side = np.zeros((size, size)), np.ones(size)
        self.side[:d] = 0.0 if standardised and objective.fit_intercept else scale * means[:d]
        np.multiply(moments.about(means)[:d, :d], scale * (2 / moments.weight), out=self.matrix[:d, :d])
        self.matrix[:d, :d] *= scale[:, None]
        self.matrix[range(d), range(d)] += 2 * l2 * scale**2

    @property
    def largest(self) -> float:
        """λmax of the Hessian in these coordinates."""
        def product(v: np.ndarray, out: np.ndarray) -> None:
            np.add(self.matrix @ v, 2 * (self.side @ v) * self.side, out=out)

        return largest_eigenvalue(product, len(self.side))

    def gap_bound(self, point: Point) -> float:
        """What F exceeds its minimum by, at most, by a Newton step; NaN where the Hessian is nearly singular."""
        objective = self.objective
        equations = NormalEquations(self.moments, fit_intercept=objective.fit_intercept, l2=objective.l2)
        return equations.gap_bound(equations.correction(point.grad)[2], point.loss, self.moments, point.w)

    def follow(self, anchor: Point, motion: Motion, pace: Pace, steps: int, tol: float) -> Stretch:
        """So many steps from the anchor, or fewer: up to the first iterate that meets the tolerance.

        And no further than to where the parameters stop changing, if there is a tolerance.
        """
        size = len(self.side)
        rows = max(1, min(steps, ENTRIES // size, PRODUCTS // size**2))
        moved, slopes = np.zeros((rows + 1, size)), np.empty((rows + 1, size))
        slopes[0] = anchor.slope
        losses, norms, excess, done, ended = [], [], 0.0, 0, False
        while done < steps and not ended:
            count = min(rows, steps - done)
            after = self.step(anchor, motion, pace, moved[: count + 1], slopes[: count + 1])
            terms = moved[1 : count + 1] * (anchor.slope + slopes[1 : count + 1]) / 2
            loss = anchor.loss + terms.sum(axis=1)
            last = self.last(anchor.u + moved[: count + 1], slopes[1 : count + 1], loss, tol) if tol > 0 else count
            if last < count:
                ended, count = True, last
                after = self.step(anchor, motion, pace, moved[: count + 1], slopes[: count + 1])
            rounding = 4 * EPS * (anchor.loss + np.abs(terms[:count]).sum(axis=1))
            excess = max(excess, float(np.max(rounding - ACCURATE * loss[:count])))
            losses.append(loss[:count])
            norms.append(np.linalg.norm(self.by_parameters(slopes[1 : count + 1]), axis=1))
            motion, done = after, done + count
            moved[0], slopes[0] = moved[count], slopes[count]
        u, slope = anchor.u + moved[0], slopes[0].copy()
        return Stretch(np.concatenate(losses), np.concatenate(norms), excess, u, slope, motion)

    def step(self, anchor: Point, motion: Motion, pace: Pace, moved: np.ndarray, slopes: np.ndarray) -> Motion:
        """Fill the rows after the first one of the distances from the anchor and the slopes."""
        change, before = motion.change.copy(), motion.before.copy()
        given = (pace.lr, pace.momentum, motion.t, pace.nesterov, pace.restarted)
        t = _moments.descend(self.matrix, self.side, anchor.slope, change, before, moved, slopes, given)
        return Motion(change, before, t)

    def last(self, u: np.ndarray, slopes: np.ndarray, loss: np.ndarray, tol: float) -> int:
        """How many of the steps are to be taken, of which u are the ends and the first start."""
        w = self.parameters(u)
        scaled = slopes if self.standardised else standardised(self.coordinates, slopes)
        optimality, noise, _ = measure(self.geometry, w[1:], loss, np.linalg.norm(scaled, axis=1))
        met = np.flatnonzero(optimality <= np.maximum(tol, noise))
        still = np.flatnonzero((w[1:] == w[:-1]).all(axis=1))
        return min(int(met[0]) + 1 if len(met) else len(loss), max(int(still[0]), 1) if len(still) else len(loss))

    def parameters(self, u: np.ndarray) -> np.ndarray:
        """The parameters by w, one a row, of coordinates."""
        if not self.standardised:
            return u
        d = len(self.coordinates.scale)
        coef = u[:, :d] * self.coordinates.scale
        return np.column_stack([coef, u[:, d:] - (coef @ self.geometry.means)[:, None]]) if u.shape[1] > d else coef

    def by_parameters(self, slopes: np.ndarray) -> np.ndarray:
        """Gradients by w, one a row, of slopes in these coordinates."""
        return by_parameters(self.coordinates, slopes) if self.standardised else slopes
