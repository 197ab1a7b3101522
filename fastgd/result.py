"""What a fit returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from fastgd import _sparse
from fastgd import _validation as validate
from fastgd._blocks import sparse_blocks
from fastgd._csr import CSR

__all__ = ["FitResult"]

PREDICT_BYTES = 1 << 22


def same(a: Any, b: Any) -> bool:
    """Equality of field values, arrays entry by entry."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, float)):
        return np.array_equal(a, b, equal_nan=True)
    return bool(a == b)


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted linear model, how it was found, and how near the optimum it is.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        In units of y per unit of the column; float32 if X was, else float64.
    intercept : float
        In units of y; 0.0 if none was fitted.
    loss : float
        F = sum_i s_i r_i^2 / sum_i s_i + l2 |coef|^2, in units of y squared.
    n_iter : int
        Updates of the parameters.
    n_passes : int
        Times X was read.
    converged : bool
        Whether the optimality met `tol`, or the gradient the level of its rounding.
    stop_reason : str
    solver : str
    lr : float or None
        The step size used; None for solvers that have none.
    optimality : float
        Scale-free gradient of F: the root mean square cosine between residual and (centred) columns, or the relative
        residual if that is smaller; at the optimum 0. See `fastgd.solvers._certificate`.
    gap_bound : float
        Upper bound of F(w) - F*, in units of y squared; NaN where no strong-convexity constant is at hand.
    history : dict of ndarray
        ``iteration``, ``loss`` (F), ``grad_norm`` (Euclidean, in the user's units) and ``seconds``; entry k after k
        updates, so entry 0 is the start.
    """

    coef: np.ndarray
    intercept: float
    loss: float
    n_iter: int
    n_passes: int
    converged: bool
    stop_reason: str
    solver: str
    lr: float | None
    optimality: float
    gap_bound: float
    history: dict[str, np.ndarray] = field(repr=False)

    def __eq__(self, other: object) -> bool:
        """Whether every field is the same; NaN is the same as NaN."""
        if not isinstance(other, FitResult):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def predict(self, X: Any) -> np.ndarray:
        """Predictions X coef + intercept.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In the dtype of `coef`, or float64 if X is.

        Raises
        ------
        TypeError, ValueError
            If X has the wrong dtype or number of columns, or holds NaN or an infinity.
        """
        X = validate.as_matrix(X, n_features=len(self.coef))
        dtype = np.result_type(validate.kernel_dtype(X.dtype), self.coef.dtype)
        predict = predict_sparse if isinstance(X, CSR) else predict_dense
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            out = predict(X, self.coef, self.intercept, dtype)
        if not np.isfinite(out).all():
            validate.refuse_nonfinite(X=X)
        return out


def predict_dense(X: np.ndarray, coef: np.ndarray, intercept: float, dtype: np.dtype) -> np.ndarray:
    """X coef + intercept in this dtype, which X is converted to piece by piece."""
    out = np.empty(len(X), dtype)
    rows = max(1, PREDICT_BYTES // (X.shape[1] * dtype.itemsize))
    coef = coef.astype(dtype, copy=False)
    for start in range(0, len(X), rows):
        part = slice(start, start + rows)
        np.matmul(X[part].astype(dtype, copy=False), coef, out=out[part])
    out += dtype.type(intercept)
    return out


def predict_sparse(X: CSR, coef: np.ndarray, intercept: float, dtype: np.dtype) -> np.ndarray:
    """X coef + intercept, summed in double, in this dtype."""
    out = np.empty(len(X), dtype)
    w = coef.astype(np.float64)
    start = 0
    for block in sparse_blocks(X, None, None):
        for rows in block.pieces():
            part = np.empty(len(rows))
            _sparse.predict(rows, w, intercept, part)
            out[start : start + len(rows)] = part
            start += len(rows)
    return out
