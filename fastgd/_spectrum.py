"""The largest eigenvalue of a symmetric matrix that is known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["largest_eigenvalue"]


def largest_eigenvalue(
    product: Callable[[np.ndarray, np.ndarray], object], size: int, *, rtol: float = 1e-6, max_products: int = 100
) -> float:
    """λmax of a positive semi-definite matrix by the Lanczos process: power iteration that forgets nothing.

    Parameters
    ----------
    product : callable
        ``product(v, out)`` writes the matrix times v to out.
    size : int
    rtol : float
        Ends when the Ritz residual is below this times the value: a bound on the relative error, which is of the order
        of its square where the next eigenvalue is not as close.
    max_products : int
        Ends after so many products in any case; the value is then a lower bound.

    Returns
    -------
    float
        Never above λmax but for rounding.

    Notes
    -----
    Golub and Van Loan, Matrix Computations, 4th ed., section 10.1. The basis is not kept: lost orthogonality repeats
    eigenvalues of the tridiagonal matrix, which the largest one does not mind.
    """
    v = np.random.default_rng(0).standard_normal(size)
    v /= np.linalg.norm(v)
    before = np.zeros(size)
    image = np.empty(size)
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(size, max_products)):
        product(v, image)
        diagonal.append(float(v @ image))
        image -= diagonal[-1] * v
        if beside:
            image -= beside[-1] * before
        beta = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        # The residual of a Ritz pair is beta times the last entry of its vector.
        if beta * abs(vectors[-1, -1]) <= rtol * abs(values[-1]) or beta == 0.0:
            break
        beside.append(beta)
        before, v, image = v, image / beta, before
    return max(float(values[-1]), 0.0)
