"""How near the optimum a point is: one measure for every solver.

With an intercept, columns are centred first, and the column of ones stands beside them. Let x_j be column j so
prepared and scaled by the roots of the weights, r the residual scaled likewise and g the gradient of F in the same
coordinates. Then

    optimality = sqrt( mean_j ( g_j / ((2/S) |x_j| |r|) )^2 ),        S the sum of the weights,

which is |grad F| / ((2/S) |X|_F |r|) for columns scaled to unit length: without a penalty the root mean square cosine
between the residual and the columns. It does not change when a column or y is given in other units. If the residual
itself is small, the second measure of Paige and Saunders (LSQR, ACM TOMS 8, 1982, section 6) is the smaller and is
taken instead: |r| / (|X|_F |w| + |y|). Each bounds the backward error: w is the exact optimum of a problem whose X and
y differ from the given ones by no more than that, relatively. Where no intercept is fitted, a mean counts in the second
measure for a thousand deviations at most: of columns much farther from zero than they vary, a residual that is small
beside them may yet be all that y varies.

With a penalty l1 |w|_1, g is the shortest subgradient of F.

No gradient can be computed better than the rounding of its residuals allows; `noise` estimates that level, and a
gradient below it counts as zero. It is eps times the reach |X|_F |w| + |y| about zero, over |r|: as if all rows were
off the same way, which they are not. Where it is high (float32 columns whose means are 10^3 deviations) a solver may
yet be far from the optimum when it meets it. A cosine of c with each of the columns leaves about (d + 1) c^2 of the
loss to be gained, where they have little to do with each other; so `noise` is no higher than what leaves EXCESS of it.
Who cannot come as near has not converged, and says so.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Geometry", "judge", "length", "shortest"]

EPS = {np.dtype(dtype): float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}
#: Of the squares of a column about zero, the share that those about its mean must exceed: its rounding.
CONSTANT = 16 * EPS[np.dtype(np.float64)] ** 2
#: Share of the loss that a gradient at the level of rounding may leave.
EXCESS = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-8}
#: What the rounding of float32 rows may be, averaged over them, of the residual, and so about of the loss; above,
#: passes are made in double.
HIDDEN = 6e-6
#: Deviations that a column without an intercept is at most counted for beside its residual.
FAR = 1e3


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
        weight = float(sums[-1])
        offset = sums[:-1] / weight
        means = shift + offset
        centred = squares[:-1] - sums[:-1] * offset
        np.maximum(centred, 0.0, out=centred)
        raw = means * means
        raw *= weight
        raw += centred
        # A column that does not vary beyond its own rounding is constant.
        centred[centred <= CONSTANT * raw] = 0.0
        deviations, reaches = np.sqrt(centred), np.sqrt(raw)
        self.weight = weight
        self.fit_intercept = fit_intercept
        self.l2 = l2
        self.l1 = l1
        self.means = means[:-1] if fit_intercept else np.zeros(len(means) - 1)
        self.y_mean = float(means[-1]) if fit_intercept else 0.0
        lengths = deviations if fit_intercept else reaches
        self.lengths = lengths[:-1]
        self.raw_lengths, self.raw_y_length = reaches[:-1], float(reaches[-1])
        counted = lengths if fit_intercept else np.minimum(reaches, FAR * deviations)
        self.counted, self.y_counted = counted[:-1], float(counted[-1])
        if self.lengths.all():
            self.inverse_lengths = 1.0 / self.lengths
        else:
            self.inverse_lengths = np.divide(1.0, self.lengths, out=np.zeros(len(lengths) - 1), where=self.lengths > 0)
        self.eps = EPS[dtype]
        self.excess = math.sqrt(EXCESS[dtype] / len(means))
        self.reaches, self.y_reach = self.raw_lengths, self.raw_y_length
        self.in_double = False

    def reach(self, w: np.ndarray) -> float:
        """What residuals are the differences of: eps times this is their rounding, in length."""
        return length(self.reaches * w[: len(self.lengths)]) + self.y_reach

    def is_rough(self, w: np.ndarray, loss: float, n: int) -> bool:
        """Whether the rounding of n float32 rows counts: errors of different rows average out."""
        if self.eps <= EPS[np.dtype(np.float64)]:
            return False
        return self.eps * self.reach(w) > HIDDEN * math.sqrt(n * loss * self.weight)

    def know_double(self) -> None:
        """From now on, passes are made in double: what is rounded are the coefficients, not the residuals."""
        self.in_double = True
        self.reaches, self.y_reach = self.lengths, EPS[np.dtype(np.float64)] / self.eps * self.raw_y_length

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
        penalty = 0.0 if plain else self.l2 * float(coef.dot(coef)) + self.l1 * float(np.abs(coef).sum())
        residual = math.sqrt(max(loss - penalty, 0.0) * self.weight)
        reach = self.reach(w)
        if plain and residual <= 4 * self.eps * reach:
            return 0.0, 0.0
        slope, intercept = self.split(grad)
        cosines = shortest(coef, slope, self.l1) * self.inverse_lengths
        cosines *= self.weight / 2
        total = math.hypot(length(cosines), intercept * math.sqrt(self.weight) / 2)
        optimality = total / math.sqrt(len(grad)) / residual if residual > 0 else math.inf if total > 0 else 0.0
        rounding = min(self.eps * reach, self.excess * math.sqrt(max(loss, 0.0) * self.weight))
        noise = rounding / residual if residual > 0 else math.inf
        if plain:
            spread = math.sqrt(len(coef)) * length(self.counted * coef) + self.y_counted
            optimality = min(optimality, residual / spread if spread > 0 else math.inf)
        return optimality, noise

    def cosine(self, w: np.ndarray, loss: float, grad: np.ndarray) -> float:
        """Of the columns alone, without that of ones: the root mean square cosine, or its like with l2."""
        coef = w[: len(self.lengths)]
        residual = math.sqrt(max(loss - self.l2 * float(coef.dot(coef)), 0.0) * self.weight)
        total = length(self.split(grad)[0] * self.inverse_lengths) * (self.weight / 2)
        return total / math.sqrt(len(coef)) / residual if residual > 0 else 0.0


def length(v: np.ndarray) -> float:
    """The Euclidean norm, also where squares overflow."""
    square = float(np.vdot(v, v))   # which, other than dot, warns of nothing
    if square == math.inf:
        largest = float(np.abs(v).max())
        return largest if largest == math.inf else largest * length(v / largest)
    return math.sqrt(square)


def shortest(coef: np.ndarray, slope: np.ndarray, l1: float) -> np.ndarray:
    """The shortest subgradient of a function with this slope plus l1 |coef|_1."""
    if l1 == 0:
        return slope
    at_zero = slope - np.maximum(np.minimum(slope, l1), -l1)
    return np.where(coef != 0, slope + np.copysign(l1, coef), at_zero)


def judge(tol: float, optimality: float, noise: float) -> tuple[bool, str]:
    """Whether the gradient has vanished, and how to say so; with tol = 0 nothing ends a fit but max_iter."""
    if tol == 0:
        return False, ""
    if optimality <= tol:
        return True, f"optimality is within tol={tol:g}"
    if optimality <= noise:
        return True, "the gradient is at rounding level"
    return False, ""
