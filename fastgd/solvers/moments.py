"""The exact solution from second moments, refined by exact residuals.

One pass forms the Gram matrix G of [X, y, 1]; the normal equations are solved in columns scaled to unit length; a
further pass takes the true gradient at the solution, which certifies it and, where it still says so, corrects it
(iterative refinement; Bjoerck, Numerical Methods for Least Squares Problems, 1996, section 6.6.5).
"""

from __future__ import annotations

import numpy as np

from fastgd import _moments
from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._certificate import Geometry, judge
from fastgd.solvers._interface import History, Options, Outcome

__all__ = ["NormalEquations", "solve"]

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
        self.factor(matrix)

    def factor(self, matrix: np.ndarray) -> None:
        """Factor R."""
        d, eps = len(matrix), np.finfo(np.float64).eps
        self.lower: np.ndarray | None = None
        self.trusted = False    # whether R^-1 has correct digits to bound a gap by
        try:
            lower = np.linalg.cholesky(matrix)
            pivot = np.diagonal(lower).min() ** 2
            if pivot > 10 * d * eps:
                self.lower = lower
                self.trusted = bool(pivot > 1000 * np.sqrt(d) * eps)
                return
        except np.linalg.LinAlgError:
            pass
        values, vectors = np.linalg.eigh(matrix)
        kept = values > 10 * d * eps * values[-1]
        self.values, self.vectors, self.dropped = values[kept], vectors[:, kept], vectors[:, ~kept]

    @property
    def delicate(self) -> bool:
        """Whether R could be factored, but its inverse has few correct digits."""
        return self.lower is not None and not self.trusted

    def solve_scaled(self, right_side: np.ndarray) -> np.ndarray:
        """R^-1 times a vector; the pseudo-inverse where R is singular."""
        if self.lower is not None:
            x = np.array(right_side)
            _moments.solve_cholesky(self.lower, x)
            return x
        return self.vectors @ ((self.vectors.T @ right_side) / self.values)

    def shortest(self, coef: np.ndarray) -> np.ndarray:
        """The shortest of the vectors of coefficients that predict what `coef` predicts."""
        if self.lower is not None or self.dropped.shape[1] == 0:
            return coef
        basis, _ = np.linalg.qr(self.scale[:, None] * self.dropped)
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

    def gap_bound(self, gain: float, loss: float) -> float:
        """What F(w) - F* cannot exceed, if `gain` is what a Newton step would gain.

        That and the rounding of F. NaN where R is so nearly singular that its inverse means little.
        """
        if not self.trusted:
            return float("nan")
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


def solve(objective: MSE, options: Options, history: History) -> Outcome:
    """Solve from the moments, then take one exact pass for the certificate and as many as it asks for to refine."""
    moments = SecondMoments(objective.n_features, n_threads=objective.n_threads)
    moments.update(objective.X, objective.y, objective.sample_weight)
    return solve_from(moments, objective, options, history)


def solve_from(moments: SecondMoments, objective: MSE, options: Options, history: History) -> Outcome:
    """`solve`, with the moments of the objective's data at hand."""
    equations = NormalEquations(moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype)
    history.add(*loss_and_grad(moments, options.w0, objective.fit_intercept, objective.l2))
    coef = in_dtype(equations.solution(), objective)
    offset = 0.0
    for refinement in range(MAX_REFINEMENTS + 1):
        w = np.append(coef, equations.intercept(coef) + offset) if objective.fit_intercept else coef
        loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        history.add(loss, grad)
        step, shift, gain = equations.correction(grad)
        optimality, noise = equations.geometry.measure(w, loss, grad)
        # Errors of a gradient's terms average out; a step that follows them would lose what the moments hold, unless
        # that is little: of nearly collinear columns.
        audible = equations.delicate or optimality > 8 * noise / np.sqrt(len(objective.X))
        if refinement == MAX_REFINEMENTS or not audible or not equations.moved_by(step, coef, objective.dtype):
            break
        coef = in_dtype(equations.shortest(coef + step), objective)
        offset += shift
    if objective.dtype != np.float64:  # the moments know the gradient to more digits than a pass
        gain = equations.correction(loss_and_grad(moments, w, objective.fit_intercept, objective.l2)[1])[2]
    converged, _ = judge(max(options.tol, noise), optimality, noise)
    reason = "solved exactly from the second moments"
    if equations.delicate and history.loss[-2] - loss > SETTLED * loss:
        converged, reason = False, "the columns are nearly collinear, and refinement has not settled"
    return Outcome(
        w=w,
        loss=loss,
        optimality=optimality,
        gap_bound=equations.gap_bound(gain, loss),
        n_iter=refinement + 1,
        converged=converged,
        stop_reason=reason,
        lr=None,
        n_passes=objective.n_passes + 1,
    )


def in_dtype(coef: np.ndarray, objective: MSE) -> np.ndarray:
    """Rounded to what X's dtype can hold, so that what is certified is what is returned."""
    return coef.astype(objective.dtype).astype(np.float64)


def loss_and_grad(
    moments: SecondMoments, w: np.ndarray, fit_intercept: bool, l2: float
) -> tuple[float, np.ndarray]:
    """F(w) and its gradient without a pass: quadratic forms of the Gram matrix of (x, y, 1) - (shift, 0)."""
    d = moments.n_features
    coef, intercept = w[:d], float(w[d]) if fit_intercept else 0.0
    shift, weight = moments.shift, moments.weight
    # The residual of a row is v.((x, y, 1) - (shift, 0)).
    v = np.concatenate([coef, [-1.0, intercept + shift[:d] @ coef - shift[d]]])
    image = moments.gram @ v
    grad = (2 / weight) * (image[:d] + shift[:d] * image[-1]) + 2 * l2 * coef
    if fit_intercept:
        grad = np.append(grad, (2 / weight) * image[-1])
    return float(v @ image) / weight + l2 * float(coef @ coef), grad
