"""The exact solution from products of rows, where there are no more of them than columns.

With P the rows of X, centred if an intercept is fitted and times sqrt(s), b the targets likewise, and K = PP' (n x n),

    (K + S l2 I) a = b,        w = P'a

is the least-squares solution, of all that there are the shortest, or that of ridge regression (Saunders, Gammerman and
Vovk, Ridge Regression Learning Algorithm in Dual Variables, ICML 1998). No matrix of d x d is formed. Where columns
differ so much in their units that K is singular to working precision, what is left over of b is fitted by columns at
unit length.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastgd import _moments, _sparse
from fastgd import _validation as validate
from fastgd._blocks import sparse_blocks
from fastgd._csr import CSR
from fastgd.objective import MSE, column_moments, refuse_underflow
from fastgd.result import predict_dense, predict_sparse
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor

__all__ = ["RowEquations", "in_dtype", "solve", "with_intercept"]

#: Bytes of the columns that are centred and multiplied at once, and how many of them there are at least.
PANEL_BYTES = 1 << 23
PANEL_COLUMNS = 64
#: Corrections by an exact residual, at most.
MAX_REFINEMENTS = 1
EPS = float(np.finfo(np.float64).eps)


class RowProducts(NamedTuple):
    """K, and of the columns of X a shift, and sums and sums of squares about it."""

    gram: np.ndarray
    shift: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


class RowEquations:
    """The dual equations of an objective, factored; columns are multiplied by `units`, if there are any.

    Centred rows add up to zero: K then has sqrt(s) for a null vector, which b has no part in. A multiple of its own
    square is added, so that K is regular if the rows are otherwise independent.
    """

    def __init__(self, objective: MSE, units: np.ndarray | None = None) -> None:
        self.objective, self.units = objective, units
        s, n = objective.sample_weight, len(objective.X)
        self.root = np.ones(n) if s is None else np.sqrt(np.asarray(s, np.float64))
        multiply = products_of_sparse_rows if isinstance(objective.X, CSR) else products_of_rows
        self.products = multiply(objective, self.root, units)
        if not np.isfinite(self.products.gram).all():
            validate.refuse_nonfinite(X=objective.X, y=objective.y, sample_weight=s)
            raise OverflowError("the squares of X or y overflow; scale the data down")
        self.weight = float(self.root @ self.root)
        self.penalty = self.weight * objective.l2
        self.factor()

    def factor(self) -> None:
        """Factor K + S l2 I by Cholesky, if it is regular to working precision, else by its eigenvectors."""
        matrix = self.products.gram
        n = len(matrix)
        diagonal = matrix.reshape(-1)[:: n + 1]
        if self.objective.fit_intercept:
            matrix += (diagonal.sum() / n / self.weight) * np.multiply.outer(self.root, self.root)
        diagonal += self.penalty
        diagonal += diagonal == 0       # rows of weight zero stand alone
        self.lower: np.ndarray | None = None
        try:
            lower = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            lower = np.zeros_like(matrix)
        if (lower.diagonal() ** 2 > 10 * n * EPS * diagonal).all():
            self.lower = lower
            return
        values, vectors = np.linalg.eigh(matrix)
        kept = values > 10 * n * EPS * values[-1]
        self.values, self.vectors = values[kept], vectors[:, kept]

    def solve(self, right_side: np.ndarray) -> np.ndarray:
        """(K + S l2 I)^-1 times a vector; the pseudo-inverse where that is singular."""
        if self.lower is not None:
            x = right_side.copy()
            _moments.solve_cholesky(self.lower, x)
            return x
        return self.vectors @ ((self.vectors.T @ right_side) / self.values)

    def coefficients(self, a: np.ndarray) -> np.ndarray:
        """P'a, in one pass over X: the gradient at w = 0 of targets that are a, or nearly."""
        objective = self.objective
        targets = self.root * a
        passed = MSE(objective.X, targets, n_threads=objective.n_threads)
        coef = passed.grad(np.zeros(passed.n_features), out=np.empty(passed.n_features))
        coef *= -len(targets) / 2
        if objective.fit_intercept:
            coef -= self.products.shift * targets.sum()
        return coef if self.units is None else self.units**2 * coef

    def geometry(self, objective: MSE) -> Geometry:
        """Lengths and means of the columns and of this objective's targets."""
        y = np.asarray(objective.y, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            y_shift = float(self.root**2 @ y) / self.weight if objective.fit_intercept else 0.0
            target = self.root * (y - y_shift)
            shift = np.append(self.products.shift, y_shift)
            sums = np.append(self.products.sums, [self.root @ target, self.weight])
            squares = np.append(self.products.squares, [target @ target, self.weight])
        if not np.isfinite(squares).all():
            validate.refuse_nonfinite(X=objective.X, y=objective.y, sample_weight=objective.sample_weight)
            raise OverflowError("the squares of X or y overflow; scale the data down")
        refuse_underflow(objective.X, objective.y, objective.sample_weight, shift, squares)
        return Geometry(
            shift, sums, squares, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype
        )


def products_of_rows(objective: MSE, root: np.ndarray, units: np.ndarray | None) -> RowProducts:
    """Products of dense rows of any dtype, in double: panel after panel of columns."""
    X, shares = objective.X, root**2 / (root @ root)
    n, d = X.shape
    gram = np.zeros((n, n))
    shift, sums, squares = np.zeros((3, d))
    width = max(PANEL_COLUMNS, PANEL_BYTES // (8 * n))
    with np.errstate(over="ignore", invalid="ignore"):  # whoever asked looks at the products
        for start in range(0, d, width):
            part = slice(start, start + width)
            panel = X[:, part].astype(np.float64)
            if objective.fit_intercept:
                for _ in range(2):  # the second time it takes away what the first one has rounded
                    means = shares @ panel
                    panel -= means
                    shift[part] += means
            panel *= root[:, None]
            sums[part] = root @ panel
            squares[part] = np.einsum("ij,ij->j", panel, panel)
            if units is not None:
                panel *= units[part]
            gram += panel @ panel.T
    return RowProducts(gram, shift, sums, squares)


def products_of_sparse_rows(objective: MSE, root: np.ndarray, units: np.ndarray | None) -> RowProducts:
    """Products of sparse rows: each row, as a dense vector, times all of them."""
    X: Any = objective.X
    n, d = X.shape
    shift, sums, squares = (column[:d] for column in column_moments(objective))
    if objective.fit_intercept:
        offset = sums / (root @ root)
        shift, sums, squares = shift + offset, np.zeros(d), squares - sums * offset
    else:
        sums, squares = sums + root @ root * shift, squares + shift * (2 * sums + root @ root * shift)
        shift = np.zeros(d)
    pieces = [rows for block in sparse_blocks(X, None, None) for rows in block.pieces()]
    gram = np.empty((n, n))
    for i in range(n):
        v = X[[i]][0].astype(np.float64) - shift
        v *= 1.0 if units is None else units**2
        start = 0
        for rows in pieces:
            _sparse.predict(rows, v, -float(shift @ v), gram[i, start : start + len(rows)])
            start += len(rows)
    gram *= root
    gram *= root[:, None]
    return RowProducts((gram + gram.T) / 2, shift, sums, squares)


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Solve by products of rows, then take one exact pass for the certificate, and correct what it finds."""
    equations = None if options.shared is None else options.shared.get("row equations")
    if equations is None:
        equations = RowEquations(objective)
        monitor.extra_passes += 1
        if options.shared is not None:
            options.shared["row equations"] = equations
    w = options.w0
    loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
    monitor.geometry = geometry = equations.geometry(objective)
    reason = monitor.note(w, loss, grad)
    a, coef = np.zeros(len(objective.X)), np.zeros(objective.n_features)
    refinements = 0
    while not reason:
        monitor.extra_passes += bool(coef.any())
        step = equations.solve(residual(objective, equations, coef, geometry) - equations.penalty * a)
        a += step
        coef = in_dtype(coef + equations.coefficients(step), objective)
        monitor.extra_passes += 1
        w = with_intercept(coef, geometry.y_mean - float(geometry.means @ coef)) if objective.fit_intercept else coef
        loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        reason = monitor.note(w, loss, grad)
        if reason or refinements == MAX_REFINEMENTS or not wanting(equations, monitor):
            break
        if equations.lower is None and equations.penalty == 0:
            equations = RowEquations(objective, geometry.inverse_lengths)
            monitor.extra_passes += 1
        refinements += 1
    monitor.judge()
    reason = reason or "solved exactly from the products of rows"
    return monitor.outcome(w, loss, reason, grad=grad, gap_bound=loss)  # F's minimum is not below zero


def wanting(equations: RowEquations, monitor: Monitor) -> bool:
    """Whether a correction has something to gain: of independent rows a fit can be exact, else the gradient can vanish.

    Not where the residual or the gradient are of rounding alone, errors of whose terms average out.
    """
    if equations.lower is not None and equations.penalty == 0:
        return monitor.noise > 0
    return monitor.optimality > 8 * monitor.noise / math.sqrt(len(equations.root)) > 0


def residual(objective: MSE, equations: RowEquations, coef: np.ndarray, geometry: Geometry) -> np.ndarray:
    """What P coef leaves of b, in double, in one pass over X; at coef = 0 there is none."""
    target = np.asarray(objective.y, np.float64) - geometry.y_mean
    if coef.any():
        target -= predict(objective.X, coef)
        target += float(geometry.means @ coef)
    return equations.root * target


def predict(X: np.ndarray | CSR, coef: np.ndarray) -> np.ndarray:
    dtype = np.dtype(np.float64)
    return predict_sparse(X, coef, 0.0, dtype) if isinstance(X, CSR) else predict_dense(X, coef, 0.0, dtype)


def in_dtype(coef: np.ndarray, objective: MSE) -> np.ndarray:
    """Rounded to what X's dtype can hold, so that what is certified is what is returned."""
    return coef if objective.dtype == np.float64 else coef.astype(objective.dtype).astype(np.float64)


def with_intercept(coef: np.ndarray, intercept: float) -> np.ndarray:
    w = np.empty(len(coef) + 1)
    w[:-1], w[-1] = coef, intercept
    return w
