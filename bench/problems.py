"""The problems of the benchmarks: sizes and kinds of data, by name, and the data itself, from a fixed seed.

Sizes are named after where X stays between two passes on a usual server: a few bytes (tiny), some 20 KB (in L1), 1 MB
(in L2), 16 MB (in L3) and 400 MB (in memory, well beyond an L3 of 100 MB).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["CSR", "Data", "Problem", "dense", "sparse"]

#: Bytes of X of a size that has a name.
SIZES = {"in L1": 24_000, "in L2": 1_000_000, "in L3": 16_000_000, "beyond L3": 200_000_000, "in memory": 400_000_000}

#: Elements of X that are drawn; the others are these again, from another place on and to another scale.
DRAWN = 1 << 20


@dataclass(frozen=True)
class Problem:
    """A size and kind of data: `density` is the share of elements that are not zero, None where X is dense."""

    name: str
    n: int
    d: int
    dtype: str
    order: str = "C"
    density: float | None = None

    def __str__(self) -> str:
        layout = f"{100 * self.density:g} % filled" if self.density else "Fortran order" if self.order == "F" else ""
        return " ".join(f"{self.name} {self.dtype} {self.n:,}×{self.d:,} {layout}".split())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"label": str(self)}


def dense(name: str, d: int, dtype: str, order: str = "C") -> Problem:
    """The problem of width d whose X has the size of this name."""
    n = max(1, SIZES[name] // (d * np.dtype(dtype).itemsize))
    shape = "wide" if n < d else "square" if n == d else "tall"
    return Problem(f"{shape}, {name}", n, d, dtype, order)


def sparse(name: str, n: int, d: int, dtype: str, density: float) -> Problem:
    return Problem(name, n, d, dtype, "C", density)


@dataclass(frozen=True)
class CSR:
    """A sparse matrix by its rows: the columns and values of row i stand from indptr[i] to indptr[i + 1]."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]
    format: str = "csr"


class Data:
    """X, y and parameters w of a problem, and how many threads may work on them."""

    def __init__(self, problem: Problem, threads: int = 1) -> None:
        self.problem, self.threads = problem, threads
        self.n, self.d, self.dtype = problem.n, problem.d, np.dtype(problem.dtype)
        rng = np.random.default_rng(0)
        drawn = rng.standard_normal(min(DRAWN, problem.n * problem.d), dtype=self.dtype)
        self.X: Any = random_rows(problem, drawn, rng) if problem.density else random_matrix(problem, drawn, rng)
        truth = (rng.standard_normal(self.d) / np.sqrt(self.d)).astype(self.dtype)
        self.y = self.product(truth)
        self.y += 0.5 * np.resize(drawn[::-1], self.n)
        self.w = (truth + rng.standard_normal(self.d) / np.sqrt(self.d)).astype(self.dtype)

    def head(self, rows: int) -> Data:
        """The same problem on its first rows."""
        part = object.__new__(Data)
        part.__dict__.update(problem=self.problem, threads=self.threads, d=self.d, dtype=self.dtype, w=self.w)
        part.n, part.y = min(rows, self.n), self.y[:rows]
        if isinstance(self.X, CSR):
            end = self.X.indptr[part.n]
            part.X = CSR(self.X.data[:end], self.X.indices[:end], self.X.indptr[: part.n + 1], (part.n, self.d))
        else:
            part.X = self.X[:rows]
        return part

    @property
    def arrays(self) -> list[np.ndarray]:
        """What a pass over X reads, each array as one contiguous vector."""
        if isinstance(self.X, CSR):
            return [self.X.data, self.X.indices, self.X.indptr]
        return [self.X.ravel("K")]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    @cached_property
    def lr(self) -> float:
        """A step size at which gradient descent converges: 1 / trace of the Hessian, at most half of 2 / λmax."""
        values = self.X.data if isinstance(self.X, CSR) else self.X.ravel("K")
        return self.n / (2 * float(values @ values))

    @property
    def sgd_lr(self) -> float:
        """A step size at which stochastic descent ends some percent above the optimum, on `sgd_rows` rows or more."""
        return 0.075 / self.d

    @property
    def sgd_rows(self) -> int:
        return min(self.n, 40 * self.d)

    def product(self, v: np.ndarray) -> np.ndarray:
        """Xv."""
        if not isinstance(self.X, CSR):
            return self.X @ v
        return np.add.reduceat(self.X.data * v[self.X.indices], self.X.indptr[:-1])  # no row is empty

    def transposed_product(self, r: np.ndarray) -> np.ndarray:
        """X'r, where X is sparse."""
        terms = self.X.data * np.repeat(r, np.diff(self.X.indptr))
        return np.bincount(self.X.indices, terms, minlength=self.d)

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Dense X and y in float64, some hundred kilobytes of rows at a time."""
        step = max(1, (1 << 17) // self.d)
        for start in range(0, self.n, step):
            yield self.X[start : start + step].astype(np.float64), self.y[start : start + step].astype(np.float64)


def random_matrix(problem: Problem, drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill X in memory order from what was drawn; every stretch starts elsewhere in it and has a scale of its own."""
    X = np.empty((problem.n, problem.d), problem.dtype, order=problem.order)  # type: ignore[call-overload]
    flat, start = X.ravel("K"), 0
    while start < len(flat):
        source = drawn[rng.integers(len(drawn) // 2 + 1) if start else 0 :]
        target = flat[start : start + len(source)]
        np.multiply(source[: len(target)], rng.uniform(0.7, 1.4) if start else 1, out=target, dtype=X.dtype)
        start += len(target)
    return X


def random_rows(problem: Problem, drawn: np.ndarray, rng: np.random.Generator) -> CSR:
    """Rows of different lengths, the columns of each spread evenly over all and ascending."""
    mean = (problem.density or 0.0) * problem.d
    lengths = rng.integers(max(1, int(mean / 2)), int(1.5 * mean) + 1, problem.n)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    stride = np.repeat(problem.d // lengths, lengths)
    place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
    indices = place * stride + rng.integers(stride)
    return CSR(np.resize(drawn, indptr[-1]), indices.astype(np.int32), indptr.astype(np.int32), (problem.n, problem.d))
