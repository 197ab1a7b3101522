"""Numba: the fused loops a competent user would write, compiled with fastmath.

By rows, each row is read from memory for the dot product and from the cache for the update. By columns, so is each
panel of rows.
"""

from __future__ import annotations

import numba
import numpy as np
from contest import Run
from numba import njit, prange
from problems import Data

VERSION = numba.__version__

PANEL = 1 << 17  # elements of a panel that stays in L2

set_threads = numba.set_num_threads


@njit(fastmath=True, cache=True)
def add_rows(X: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray) -> None:
    """Add X'(Xw - y) to g."""
    for i in range(X.shape[0]):
        r = -y[i]
        for j in range(X.shape[1]):
            r += X[i, j] * w[j]
        for j in range(X.shape[1]):
            g[j] += r * X[i, j]


@njit(fastmath=True, cache=True)
def add_columns(X: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray) -> None:
    """Add X'(Xw - y) to g, for an X in Fortran order."""
    n, d = X.shape
    step = max(64, PANEL // d)
    residuals = np.empty(step, X.dtype)
    for start in range(0, n, step):
        m = min(step, n - start)
        r = residuals[:m]
        r[:] = -y[start : start + m]
        for j in range(d):
            x = X[start : start + m, j]
            for i in range(m):
                r[i] += x[i] * w[j]
        for j in range(d):
            x = X[start : start + m, j]
            slope = r.dtype.type(0)
            for i in range(m):
                slope += x[i] * r[i]
            g[j] += slope


@njit(fastmath=True, cache=True)
def mse_grad(X: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray, by_columns: bool) -> np.ndarray:
    g[:] = 0
    if by_columns:
        add_columns(X, y, w, g)
    else:
        add_rows(X, y, w, g)
    g *= g.dtype.type(2 / len(y))
    return g


@njit(fastmath=True, cache=True, parallel=True)
def gradient_on_threads(X: np.ndarray, y: np.ndarray, w: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Each thread sums a share of the rows into a row of `shares`."""
    n, k = len(y), len(shares)
    for t in prange(k):
        part = slice(t * n // k, (t + 1) * n // k)
        shares[t] = 0
        add_rows(X[part], y[part], w, shares[t])
    return shares.sum(axis=0) * shares.dtype.type(2 / n)


@njit(fastmath=True, cache=True)
def descend(X: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray, lr: float) -> np.ndarray:
    mse_grad(X, y, w, g, False)
    for j in range(len(w)):
        w[j] -= w.dtype.type(lr) * g[j]
    return w


@njit(fastmath=True, cache=True)
def epoch(X: np.ndarray, y: np.ndarray, w: np.ndarray, order: np.ndarray, rate: float) -> np.ndarray:
    """Stochastic gradient descent, row by row in the given order."""
    w[:] = 0
    for i in order:
        r = -y[i]
        for j in range(len(w)):
            r += X[i, j] * w[j]
        r *= w.dtype.type(rate)
        for j in range(len(w)):
            w[j] -= r * X[i, j]
    return w


@njit(fastmath=True, cache=True)
def gradient_of_sparse(
    values: np.ndarray, columns: np.ndarray, starts: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray
) -> np.ndarray:
    g[:] = 0
    for i in range(len(y)):
        r = -y[i]
        for k in range(starts[i], starts[i + 1]):
            r += values[k] * w[columns[k]]
        for k in range(starts[i], starts[i + 1]):
            g[columns[k]] += r * values[k]
    g *= g.dtype.type(2 / len(y))
    return g


def gradient(data: Data) -> Run:
    X, y, w = data.X, data.y, data.w
    if data.threads > 1:
        shares = np.empty((data.threads, data.d), data.dtype)
        return Run(lambda: gradient_on_threads(X, y, w, shares))
    g, by_columns = np.empty_like(w), data.problem.order == "F"
    return Run(lambda: mse_grad(X, y, w, g, by_columns))


def gradient_function(data: Data) -> Run:
    X, y, w = data.X, data.y, data.w
    return Run(lambda: mse_grad(X, y, w, np.empty_like(w), False))


def step(data: Data) -> Run:
    X, y, w, g, lr = data.X, data.y, data.w.copy(), np.empty_like(data.w), data.lr
    return Run(lambda: descend(X, y, w, g, lr))


def sgd_epoch(data: Data) -> Run:
    X, y, n, w, rate = data.X, data.y, data.n, np.empty_like(data.w), 2 * data.sgd_lr
    return Run(lambda: epoch(X, y, w, np.random.default_rng(0).permutation(n), rate))


def sparse_gradient(data: Data) -> Run:
    """Columns that are known not to be negative save a comparison each."""
    X, y, w, g = data.X, data.y, data.w, np.empty_like(data.w)
    columns = X.indices.view(np.uint32)
    return Run(lambda: gradient_of_sparse(X.data, columns, X.indptr, y, w, g))


RUNS = {
    "gradient": gradient,
    "gradient function": gradient_function,
    "step": step,
    "SGD epoch": sgd_epoch,
    "sparse gradient": sparse_gradient,
}
