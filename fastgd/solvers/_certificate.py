"""How near the optimum a point is: one measure for every solver.

With an intercept, columns are centred first, and the column of ones stands beside them. Let x_j be column j so
prepared and scaled by the roots of the weights, r the residual scaled likewise and g the gradient of F in the same
coordinates. Then

    optimality = sqrt( mean_j ( g_j / ((2/S) |x_j| |r|) )^2 ),        S the sum of the weights,

which is |grad F| / ((2/S) |X|_F |r|) for columns scaled to unit length: without a penalty the root mean square cosine
between the residual and the columns. It does not change when a column or y is given in other units. If the residual
itself is small, the second measure of Paige and Saunders (LSQR, ACM TOMS 8, 1982, section 6) is the smaller and is
taken instead: |r| / (|X|_F |w| + |y|). Each bounds the backward error: w is the exact optimum of a problem whose X and
y differ from the given ones by no more than that, relatively.

With a penalty l1 |w|_1, g is the shortest subgradient of F.

No gradient can be computed better than the rounding of its residuals allows; `noise` estimates that level, and a
gradient below it counts as zero.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Geometry", "judge", "shortest"]


class Geometry:
    """Lengths and means of the columns, against which gradients and residuals are measured.

    Parameters
    ----------
    shift, sums, squares : ndarray
        Of the columns of [X, y, 1], as `fastgd.objective.column_moments` gives them.
    fit_intercept : bool
    l2, l1 : float
    dtype : dtype
        In which dot products were computed.
    """

    def __init__(
        self,
        shift: np.ndarray,
        sums: np.ndarray,
        squares: np.ndarray,
        *,
        fit_intercept: bool,
        l2: float,
        dtype: np.dtype,
        l1: float = 0.0,
    ) -> None:
        weight = sums[-1]
        offset = sums[:-1] / weight
        means = shift + offset
        centred = np.maximum(squares[:-1] - sums[:-1] * offset, 0.0)
        raw = centred + weight * means * means
        # A column that does not vary beyond its own rounding is constant.
        centred[centred <= weight * (4 * np.finfo(np.float64).eps * means) ** 2] = 0.0
        self.weight = float(weight)
        self.fit_intercept = fit_intercept
        self.l2 = l2
        self.l1 = l1
        self.means = means[:-1] if fit_intercept else np.zeros(len(means) - 1)
        self.y_mean = float(means[-1]) if fit_intercept else 0.0
        lengths = np.sqrt(centred if fit_intercept else raw)
        self.lengths, self.y_length = lengths[:-1], float(lengths[-1])
        self.raw_lengths, self.raw_y_length = np.sqrt(raw[:-1]), float(np.sqrt(raw[-1]))
        self.eps = float(np.finfo(dtype).eps)

    def split(self, grad: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradient with respect to w, columns centred, and to the intercept; the latter 0 if none is fitted."""
        if not self.fit_intercept:
            return grad, 0.0
        return grad[:-1] - self.means * grad[-1], float(grad[-1])

    def measure(self, w: np.ndarray, loss: float, grad: np.ndarray) -> tuple[float, float]:
        """The optimality of w, and the level below which rounding hides it.

        Parameters
        ----------
        w, grad : ndarray
            Parameters and the gradient there of F less the l1 penalty, the intercept last if one is fitted.
        loss : float
            F(w).
        """
        coef = w[: len(self.lengths)]
        plain = self.l2 == self.l1 == 0
        penalty = 0.0 if plain else self.l2 * float(coef @ coef) + self.l1 * float(np.abs(coef).sum())
        residual = math.sqrt(max(loss - penalty, 0.0) * self.weight)
        reach = norm(self.raw_lengths * coef) + self.raw_y_length
        if plain and residual <= 8 * self.eps * reach:
            return 0.0, 0.0
        scaled, intercept = self.split(grad)
        scaled = shortest(coef, scaled, self.l1)
        cosines = np.divide(scaled, self.lengths, out=np.zeros_like(scaled), where=self.lengths > 0)
        slope = math.hypot(norm(cosines) * self.weight, intercept * math.sqrt(self.weight)) / 2
        optimality = slope / math.sqrt(len(coef) + self.fit_intercept)
        optimality = 0.0 if slope == 0 else optimality / residual if residual > 0 else np.inf
        noise = self.eps * reach / residual if residual > 0 else np.inf
        if plain:
            spread = math.sqrt(len(coef)) * norm(self.lengths * coef) + self.y_length
            optimality = min(optimality, residual / spread if spread > 0 else np.inf)
        return optimality, noise


def norm(x: np.ndarray) -> float:
    """The Euclidean one."""
    return math.sqrt(x @ x)


def shortest(coef: np.ndarray, slope: np.ndarray, l1: float) -> np.ndarray:
    """The shortest subgradient of a function with this slope plus l1 |coef|_1."""
    if l1 == 0:
        return slope
    at_zero = np.sign(slope) * np.maximum(np.abs(slope) - l1, 0.0)
    return np.where(coef != 0, slope + l1 * np.sign(coef), at_zero)


def judge(tol: float, optimality: float, noise: float) -> tuple[bool, str]:
    """Whether the gradient has vanished, and how to say so; with tol = 0 nothing ends a fit but max_iter."""
    if tol == 0:
        return False, ""
    if optimality <= tol:
        return True, f"optimality is within tol={tol:g}"
    if optimality <= noise:
        return True, "the gradient is at rounding level"
    return False, ""
