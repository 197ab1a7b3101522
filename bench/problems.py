"""The problems of the benchmark suite, by name, and who solves them.

A case is what a user does; a problem is the size and kind of data it is done on. Data is made from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastgd as fg

__all__ = ["CASES", "PROBLEMS", "Data", "Problem", "read_once"]


@dataclass(frozen=True)
class Problem:
    """A size and kind of data."""

    name: str
    n: int
    d: int
    dtype: str
    order: str = "C"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.n}x{self.d} {self.order}"


PROBLEMS = [
    Problem("tiny", 4, 2, "float64"),
    Problem("small", 442, 10, "float64"),
    Problem("in L2", 2_000, 100, "float32"),
    Problem("in L3", 20_000, 100, "float64"),
    Problem("narrow", 1_000_000, 4, "float64"),
    Problem("tall", 1_000_000, 20, "float64"),
    Problem("tall", 1_000_000, 100, "float32"),
    Problem("tall", 200_000, 250, "float32"),
    Problem("tall", 100_000, 100, "float64"),
    Problem("tall", 500_000, 100, "float32", "F"),
    Problem("wide", 100_000, 1_000, "float32"),
    Problem("wide", 20_000, 2_500, "float32"),
]


class Data:
    """The arrays of a problem, and the objective fastgd keeps them in; one thread."""

    def __init__(self, problem: Problem) -> None:
        rng = np.random.default_rng(0)
        dtype = np.dtype(problem.dtype)
        self.X = np.empty((problem.n, problem.d), dtype, order=problem.order)
        for start in range(0, problem.n, 10_000):
            part = self.X[start : start + 10_000]
            part[...] = rng.random(part.shape, dtype=dtype)
        self.y = rng.random(problem.n).astype(dtype)
        self.w = rng.random(problem.d).astype(dtype)
        self.out = np.empty(problem.d, dtype)
        self.objective = fg.MSE(self.X, self.y, n_threads=1)


def numpy_gradient(data: Data) -> np.ndarray:
    return (2 / len(data.y)) * (data.X.T @ (data.X @ data.w - data.y))


def numpy_value(data: Data) -> float:
    r = data.X @ data.w - data.y
    return float(r @ r) / len(r)


def numpy_step(data: Data) -> None:
    data.w -= 1e-12 * numpy_gradient(data)


def numpy_moments(data: Data) -> np.ndarray:
    return data.X.T @ data.X


def read_once(data: Data) -> float:
    """The read ceiling: X once through the processor, by BLAS's dot product of X with itself."""
    flat = data.X.ravel("K")
    return float(flat @ flat)


#: Case -> (fastgd's way, NumPy's way).
CASES: dict[str, tuple[Callable[[Data], object], Callable[[Data], object]]] = {
    "gradient": (lambda data: data.objective.grad(data.w, out=data.out), numpy_gradient),
    "gradient function": (lambda data: fg.mse_grad(data.X, data.y, data.w), numpy_gradient),
    "value": (lambda data: data.objective.value(data.w), numpy_value),
    "step": (lambda data: data.objective.step_(data.w, 1e-12), numpy_step),
    "moments": (lambda data: fg.Moments(data.X.shape[1], n_threads=1).update(data.X, data.y), numpy_moments),
}
