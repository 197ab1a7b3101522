"""The exact solution from second moments, refined by exact residuals.

One pass forms the Gram matrix G of [X, y, 1]; the normal equations are solved in columns scaled to unit length; a
further pass takes the true gradient at the solution, which certifies it and, where it still says so, corrects it
(iterative refinement; Bjoerck, Numerical Methods for Least Squares Problems, 1996, section 6.6.5).

Of many float32 rows G is summed in float32 lanes first, in half the time. Its rounding moves the eigenvalues of the
scaled matrix R by up to `blur`. Where that is more than BLURRED, a small share, of the smallest, or R cannot be
factored, nothing is concluded from it: G is summed again in double. Otherwise refinement gains a factor of 1/BLURRED or
more from each pass, and bounds derived from R are widened by what the blur may hide.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fastgd import _moments
from fastgd._spectrum import largest_eigenvalue
from fastgd.objective import MSE, ROUNDING, SecondMoments
from fastgd.solvers._certificate import Geometry, judge
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor

__all__ = ["USES", "NormalEquations", "solve"]

#: Options of `fit` that it has a use for.
USES: frozenset[str] = frozenset()
#: Rows from which on, and so many for each column, float32 data is first summed in float32: rounding errors of
#: different tiles then average out, and the time of a pass counts.
NARROW_ROWS = 4096
NARROW_ROWS_PER_COLUMN = 2
#: Of the smallest eigenvalue, what the rounding of the moments may change.
BLURRED = 1 / 32
#: Corrections by an exact residual, at most.
MAX_REFINEMENTS = 2
#: Of nearly collinear columns, a relative fall of the loss in the last correction that leaves no more to come.
SETTLED = 1e-8


class NormalEquations:
    """The centred, scaled normal equations of a set of moments, factored.

    Columns are scaled to unit length: R = D C D + S l2 D^2, with C the (centred) second moments of X, S the sum of the
    weights and D the inverse column lengths. R is factored by Cholesky, or, where it is singular to working precision,
    by its eigenvectors, of which the negligible ones are left out.

    Parameters
    ----------
    moments : SecondMoments
    fit_intercept : bool
    l2 : float
    dtype : dtype
        In which passes over the data compute.
    """

    def __init__(
        self, moments: SecondMoments, *, fit_intercept: bool, l2: float, dtype: np.dtype = np.dtype(np.float64)
    ) -> None:
        d = moments.n_features
        gram = moments.gram if fit_intercept else moments.about(np.zeros(d + 1))
        self.geometry = Geometry(
            moments.shift,
            moments.gram[-1],
            np.diagonal(moments.gram),
            fit_intercept=fit_intercept,
            l2=l2,
            dtype=dtype,
        )
        sums, weight = gram[-1, :-1], self.geometry.weight
        centred = gram[:-1, :-1] - np.outer(sums, sums) / weight if fit_intercept else gram[:-1, :-1]
        lengths = self.geometry.lengths
        self.scale = np.divide(1.0, lengths, out=np.zeros(d), where=lengths > 0)
        self.right_side = self.scale * centred[:-1, -1]
        matrix = centred[:-1, :-1] * self.scale
        matrix *= self.scale[:, None]
        self.y_square = float(centred[-1, -1])
        matrix.flat[:: d + 1] += weight * l2 * self.scale**2
        matrix.flat[:: d + 1] += lengths == 0  # constant columns stand alone, with coefficient 0
        self.rounding = moments.rounding if moments.rounding > ROUNDING[np.dtype(np.float64)] else 0.0
        self.factor(matrix, moments)

    def factor(self, matrix: np.ndarray, moments: SecondMoments) -> None:
        """Factor R by Cholesky, if it is regular to working precision.

        The rounding of the moments adds up to `blur` to R, in norm: an entry is off by `rounding` times the lengths of
        its columns about the shift, and errors of independent signs in d x d entries have a norm of about sqrt(d)
        times one of them. It is 0 where the rounding is that of float64, which R's own is.
        """
        d, eps = len(matrix), np.finfo(np.float64).eps
        self.lower: np.ndarray | None = None
        self.trusted = False    # whether R^-1 has correct digits to bound a gap by
        self.least = 0.0        # a lower bound of R's smallest eigenvalue, estimated where R is blurred
        self.blur = self.rounding * np.sqrt(d) * self.longest(moments) ** 2 if self.rounding > 0 else 0.0
        self.matrix = matrix
        try:
            lower = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return
        pivot = np.diagonal(lower).min() ** 2
        if not pivot > max(10 * d * eps, self.blur):
            return
        self.lower = lower
        self.trusted = bool(pivot > 1000 * np.sqrt(d) * eps)
        if self.blur > 0:
            # The Lanczos process comes near the largest eigenvalue of R^-1 from below: half of it is left for that.
            inverse = largest_eigenvalue(lambda v, out: np.copyto(out, self.solve_scaled(v)), d, rtol=0.1)
            self.trusted = self.trusted and bool(self.blur <= BLURRED / (2 * inverse))
            self.least = 1 / (2 * inverse) - self.blur

    def longest(self, moments: SecondMoments) -> float:
        """The largest ratio of the length of a column about the shift to that about its mean, or about zero."""
        squares, lengths = np.diagonal(moments.gram)[:-2], self.geometry.lengths
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.max(np.sqrt(squares) / lengths, where=squares > 0, initial=1.0))

    @property
    def delicate(self) -> bool:
        """Whether R could be factored, but its inverse has few correct digits."""
        return self.lower is not None and not self.trusted

    @property
    def blurred(self) -> bool:
        """Whether the rounding of the moments hides what R is."""
        return self.blur > 0 and not self.trusted

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of R, and the eigenvectors of what are zeros but for rounding."""
        values, vectors = np.linalg.eigh(self.matrix)
        kept = values > max(10 * len(values) * np.finfo(np.float64).eps, self.blur) * values[-1]
        return values[kept], vectors[:, kept], vectors[:, ~kept]

    def solve_scaled(self, right_side: np.ndarray) -> np.ndarray:
        """R^-1 times a vector; the pseudo-inverse where R is singular."""
        if self.lower is not None:
            x = np.array(right_side)
            _moments.solve_cholesky(self.lower, x)
            return x
        values, vectors, _ = self.eigen
        return vectors @ ((vectors.T @ right_side) / values)

    def shortest(self, coef: np.ndarray) -> np.ndarray:
        """The shortest of the vectors of coefficients that predict what `coef` predicts."""
        if self.lower is not None:
            return coef
        basis, _ = np.linalg.qr(self.scale[:, None] * self.eigen[2])
        return coef - basis @ (basis.T @ coef)

    def solution(self) -> np.ndarray:
        """The coefficients, in the units of X and y."""
        return self.shortest(self.scale * self.solve_scaled(self.right_side))

    def intercept(self, coef: np.ndarray) -> float:
        """The best intercept for these coefficients."""
        return self.geometry.y_mean - float(self.geometry.means @ coef)

    def moved_by(self, step: np.ndarray, coef: np.ndarray, dtype: np.dtype) -> bool:
        """Whether a step changes predictions by more than rounding the coefficients does."""
        lengths = self.geometry.lengths
        rounding = 1e-12 if dtype == np.float64 else 4 * np.finfo(dtype).eps
        return bool(np.linalg.norm(lengths * step) > rounding * np.linalg.norm(lengths * coef))

    def gap_bound(self, gain: float, loss: float, moments: SecondMoments, w: np.ndarray) -> float:
        """What F(w) - F* cannot exceed, if `gain` is what a Newton step would gain by the gradient of the moments.

        That and the rounding of F. NaN where R is so nearly singular that its inverse means little. Where the rounding
        of the moments blurs R, its eigenvalues may be smaller by that share; and it hides a gradient of some length.
        """
        if not self.trusted:
            return float("nan")
        if self.blur > 0:
            terms = np.sqrt(np.diagonal(moments.gram)) @ np.abs(residual_direction(moments, w))
            hidden = self.rounding * np.sqrt(len(w)) * self.longest(moments) * terms
            step = np.sqrt(gain * self.geometry.weight / (1 - BLURRED)) + hidden / np.sqrt(self.least)
            gain = step * step / self.geometry.weight
        return float(gain + 4 * np.finfo(np.float64).eps * loss)

    def correction(self, grad: np.ndarray) -> tuple[np.ndarray, float, float]:
        """The Newton step for a gradient of F, and what it gains: F(w) - F* = half the gradient times the step.

        The step is that of the coefficients and that of the intercept that goes with centred columns.
        """
        slope, intercept = self.geometry.split(grad)
        scaled = self.scale * slope * (self.geometry.weight / 2)
        step = self.solve_scaled(scaled)
        gain = float(scaled @ step) / self.geometry.weight + intercept * intercept / 4
        return -self.scale * step, -intercept / 2, gain


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Solve from the moments, then take one exact pass for the certificate and as many as it asks for to refine."""
    n, d = len(objective.X), objective.n_features
    narrow = n >= max(NARROW_ROWS, NARROW_ROWS_PER_COLUMN * d)
    moments = SecondMoments(d, objective.n_threads, dtype=None if narrow else np.float64)
    moments.update(objective.X, objective.y, objective.sample_weight)
    return solve_from(moments, objective, options, monitor)


def solve_from(moments: SecondMoments, objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """`solve`, with the moments of the objective's data at hand."""
    equations = NormalEquations(moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype)
    history = monitor.history
    monitor.extra_passes += 1
    if equations.blurred:
        moments = SecondMoments(moments.n_features, objective.n_threads, dtype=np.float64)
        moments.update(objective.X, objective.y, objective.sample_weight)
        equations = NormalEquations(
            moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype
        )
        monitor.extra_passes += 1
    monitor.geometry = equations.geometry
    loss, grad = loss_and_grad(moments, options.w0, objective.fit_intercept, objective.l2)
    if ended := monitor.show(options.w0, loss, grad):
        return monitor.outcome(options.w0, loss, ended)
    coef = in_dtype(equations.solution(), objective)
    offset = 0.0
    for refinement in range(MAX_REFINEMENTS + 1):
        w = np.append(coef, equations.intercept(coef) + offset) if objective.fit_intercept else coef
        loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        ended = monitor.show(w, loss, grad)
        step, shift, gain = equations.correction(grad)
        optimality, noise = equations.geometry.measure(w, loss, grad)
        # Errors of a gradient's terms average out; a step that follows them would lose what the moments hold, unless
        # that is little: of nearly collinear columns.
        audible = equations.delicate or optimality > 8 * noise / np.sqrt(len(objective.X))
        if ended or refinement == MAX_REFINEMENTS or not audible or not equations.moved_by(step, coef, objective.dtype):
            break
        coef = in_dtype(equations.shortest(coef + step), objective)
        offset += shift
    if objective.dtype != np.float64:  # the moments know the gradient to more digits than a pass
        gain = equations.correction(loss_and_grad(moments, w, objective.fit_intercept, objective.l2)[1])[2]
    converged, _ = judge(max(options.tol, noise), optimality, noise)
    reason = "solved exactly from the second moments"
    if equations.delicate and history.loss[-2] - loss > SETTLED * loss:
        converged, reason = False, "the columns are nearly collinear, and refinement has not settled"
    monitor.optimality, monitor.converged = optimality, converged
    bound = equations.gap_bound(gain, loss, moments, w)
    return monitor.outcome(w, loss, ended or reason, gap_bound=bound)


def in_dtype(coef: np.ndarray, objective: MSE) -> np.ndarray:
    """Rounded to what X's dtype can hold, so that what is certified is what is returned."""
    return coef.astype(objective.dtype).astype(np.float64)


def residual_direction(moments: SecondMoments, w: np.ndarray) -> np.ndarray:
    """The v of which v.((x, y, 1) - (shift, 0)) is the residual of a row (x, y)."""
    d, shift = moments.n_features, moments.shift
    intercept = float(w[d]) if len(w) > d else 0.0
    return np.concatenate([w[:d], [-1.0, intercept + shift[:d] @ w[:d] - shift[d]]])


def loss_and_grad(
    moments: SecondMoments, w: np.ndarray, fit_intercept: bool, l2: float
) -> tuple[float, np.ndarray]:
    """F(w) and its gradient without a pass: quadratic forms of the Gram matrix of (x, y, 1) - (shift, 0)."""
    d = moments.n_features
    coef, shift, weight = w[:d], moments.shift, moments.weight
    v = residual_direction(moments, w)
    image = moments.gram @ v
    grad = (2 / weight) * (image[:d] + shift[:d] * image[-1]) + 2 * l2 * coef
    if fit_intercept:
        grad = np.append(grad, (2 / weight) * image[-1])
    return float(v @ image) / weight + l2 * float(coef @ coef), grad
