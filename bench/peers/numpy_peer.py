"""NumPy: the textbook's expressions, two passes over X, with results written in place wherever NumPy can."""

from __future__ import annotations

import numpy as np
from contest import Run
from problems import Data

VERSION = np.__version__


def gradient(data: Data) -> Run:
    X, y, w, scale = data.X, data.y, data.w, data.dtype.type(2 / data.n)
    r, g = np.empty_like(y), np.empty_like(w)

    def call() -> np.ndarray:
        np.matmul(X, w, out=r)
        np.subtract(r, y, out=r)
        np.matmul(X.T, r, out=g)
        return np.multiply(g, scale, out=g)

    return Run(call)


def gradient_function(data: Data) -> Run:
    X, y, w, n = data.X, data.y, data.w, data.n
    return Run(lambda: (2 / n) * (X.T @ (X @ w - y)))


def step(data: Data) -> Run:
    X, y, w, r, g = data.X, data.y, data.w.copy(), np.empty_like(data.y), np.empty_like(data.w)
    rate = data.dtype.type(2 * data.lr / data.n)

    def call() -> None:
        np.matmul(X, w, out=r)
        np.subtract(r, y, out=r)
        np.matmul(X.T, r, out=g)
        np.multiply(g, rate, out=g)
        np.subtract(w, g, out=w)

    return Run(call, lambda _: w.copy())


def moments(data: Data) -> Run:
    """X'X alone, a part of the moments, in the precision of X."""
    X = data.X
    return Run(lambda: X.T @ X)


def sgd_epoch(data: Data) -> Run:
    part = data.head(data.sgd_rows)
    X, y, lr = part.X, part.y, data.sgd_lr

    def call() -> np.ndarray:
        w = np.zeros_like(data.w)
        for i in np.random.default_rng(0).permutation(part.n):
            x = X[i]
            w -= (2 * lr * (x @ w - y[i])) * x
        return w

    return Run(call, rows=part.n)


RUNS = {
    "gradient": gradient,
    "gradient function": gradient_function,
    "step": step,
    "moments": moments,
    "SGD epoch": sgd_epoch,
}
