"""fastgd.reference, the same in plain Python, on so few rows that it ends: what Cython bought."""

from __future__ import annotations

import platform
import random

from contest import Run
from problems import Data

from fastgd import reference

VERSION = platform.python_version()

TERMS = 20_000  # products of numbers that a call may form, roughly


def first_rows(data: Data, terms_per_row: int) -> tuple[Data, list[list[float]], list[float]]:
    part = data.head(max(1, TERMS // terms_per_row))
    return part, part.X.tolist(), part.y.tolist()


def gradient(data: Data) -> Run:
    part, X, y = first_rows(data, data.d)
    w = data.w.tolist()
    return Run(lambda: reference.mse_grad(X, y, w), rows=part.n)


def step(data: Data) -> Run:
    part, X, y = first_rows(data, data.d)
    w, lr = data.w.tolist(), part.lr
    return Run(lambda: reference.update(w, reference.mse_grad(X, y, w), lr), rows=part.n)


def moments(data: Data) -> Run:
    part, X, y = first_rows(data, data.d * data.d)
    d = data.d
    return Run(lambda: [row[:d] for row in reference.moments(X, y)[:d]], rows=part.n)


def sgd_epoch(data: Data) -> Run:
    part = data.head(data.sgd_rows)
    X, y, lr = part.X.tolist(), part.y.tolist(), data.sgd_lr

    def call() -> list[float]:
        w = [0.0] * data.d
        for i in random.Random(0).sample(range(part.n), part.n):
            w = reference.update(w, reference.mse_grad([X[i]], [y[i]], w), lr)
        return w

    return Run(call, rows=part.n)


RUNS = {
    "gradient": gradient,
    "gradient function": gradient,
    "step": step,
    "moments": moments,
    "SGD epoch": sgd_epoch,
}
