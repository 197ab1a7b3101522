"""NumPy: the textbook's expressions, two passes over X."""

from __future__ import annotations

import numpy as np
from contest import Run
from problems import Data

VERSION = np.__version__


def gradient(data: Data) -> Run:
    X, y, w, n = data.X, data.y, data.w, data.n
    return Run(lambda: (2 / n) * (X.T @ (X @ w - y)))


def step(data: Data) -> Run:
    X, y, w, n, lr = data.X, data.y, data.w.copy(), data.n, data.lr

    def call() -> None:
        w[:] = w - lr * (2 / n) * (X.T @ (X @ w - y))

    return Run(call, lambda _: w.copy())


def moments(data: Data) -> Run:
    """X'X alone, a part of the moments, in the precision of X."""
    X = data.X
    return Run(lambda: X.T @ X)


def fit(data: Data) -> Run:
    """The normal equations of centred columns, in the precision of X."""
    X, y = data.X, data.y

    def call() -> np.ndarray:
        centred, target = X - X.mean(axis=0), y - y.mean()
        return np.linalg.solve(centred.T @ centred, centred.T @ target)

    return Run(call)


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
    "gradient function": gradient,
    "step": step,
    "moments": moments,
    "fit": fit,
    "SGD epoch": sgd_epoch,
}
