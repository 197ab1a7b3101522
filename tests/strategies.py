"""Problems of all sizes and scales, and the same numbers laid out in memory in every way a kernel may meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

__all__ = ["LAYOUTS", "SIZES", "Problem", "make_problem", "problems"]

#: One, a few, and either side of each multiple of a vector's width; 16 is a group of lanes, 64 a run of rows.
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000)
KINDS = ("gaussian", "fitted", "integers", "sparse", "duplicates", "offset")


@dataclass(frozen=True)
class Problem:
    """Data in the dtype a kernel reads; w, b and the shift are always double."""

    X: np.ndarray
    y: np.ndarray
    s: np.ndarray | None
    w: np.ndarray
    b: float

    @property
    def dtype(self) -> np.dtype:
        return self.X.dtype

    def unweighted(self) -> Problem:
        return replace(self, s=None)

    def without_intercept(self) -> Problem:
        return replace(self, b=0.0)

    def doubles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X, y and the weights, ones if there are none, as double."""
        s = np.ones(len(self.y)) if self.s is None else self.s
        return self.X.astype(np.float64), self.y.astype(np.float64), s.astype(np.float64)

    def lists(self) -> tuple[list[list[float]], list[float], list[float] | None]:
        """X, y and the weights as the oracle takes them."""
        X, y, s = self.doubles()
        return X.tolist(), y.tolist(), None if self.s is None else s.tolist()


def make_problem(n: int, d: int, dtype: type, seed: int, kind: str = "gaussian", scaled: bool = True) -> Problem:
    """Numbers of a kind, with columns, targets, weights and parameters each at a scale of 1e-6 to 1e6 if scaled."""
    rng = np.random.default_rng([seed, n, d])

    def scales(size: int | None = None) -> np.ndarray | float:
        return 10.0 ** rng.uniform(-6, 6, size) if scaled else 1.0

    X = rng.standard_normal((n, d))
    if kind == "integers":
        X = np.rint(3 * X)
    elif kind == "sparse":
        X *= rng.random((n, d)) < 0.3
    elif kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 3), n)][:, rng.integers(0, max(1, d // 3), d)]
    elif kind == "offset":
        X += 1e3 * rng.standard_normal(d)
    if kind != "integers":
        X *= scales(d)
    X = X.astype(dtype)
    w = rng.standard_normal(d) * scales(d)
    if kind == "integers":
        w = np.rint(3 * rng.standard_normal(d))
    b = float(rng.standard_normal() * scales())
    y = rng.standard_normal(n) * scales()
    if kind == "fitted":
        y = X @ w + b
        y += np.abs(y).max() * 10.0 ** rng.uniform(-18, -2) * rng.standard_normal(n)
    s = rng.uniform(0, 2, n) * (rng.random(n) < 0.9) * scales()
    s[rng.integers(n)] = 1.0
    y, s = (array.astype(rng.choice([np.float32, np.float64])) for array in (y, s))
    return Problem(X, y, s, w, b)


@st.composite
def random_problems(draw: st.DrawFn, dtype: type, shapes: list[tuple[int, int]]) -> Problem:
    """Hypothesis picks the shape, the kind and the seed."""
    n, d = draw(st.sampled_from(shapes))
    return make_problem(n, d, dtype, draw(st.integers(0, 2**32)), draw(st.sampled_from(KINDS)), draw(st.booleans()))


@st.composite
def drawn_problems(draw: st.DrawFn, dtype: type) -> Problem:
    """Hypothesis picks each number, subnormal ones and minus zero among them."""
    n, d = draw(st.sampled_from(SIZES[:6])), draw(st.sampled_from(SIZES[:6]))
    width = 8 * np.dtype(dtype).itemsize
    largest = 1e6
    numbers = st.floats(-largest, largest, width=width)
    weights = st.floats(0, largest, width=width)
    s = draw(npst.arrays(dtype, n, elements=weights))
    s[draw(st.integers(0, n - 1))] = 1.0
    return Problem(
        X=draw(npst.arrays(dtype, (n, d), elements=numbers)),
        y=draw(npst.arrays(dtype, n, elements=numbers)),
        s=s,
        w=draw(npst.arrays(np.float64, d, elements=st.floats(-largest, largest))),
        b=draw(st.floats(-largest, largest)),
    )


def problems(dtype: type, cost: Callable[[int, int], int] = lambda n, d: n * d, most: int = 1500) -> st.SearchStrategy:
    """Problems of shapes (n, d) with cost(n, d) <= most."""
    shapes = [(n, d) for n in SIZES for d in SIZES if cost(n, d) <= most]
    return st.one_of(random_problems(dtype, shapes), random_problems(dtype, shapes), drawn_problems(dtype))


# ---- layouts ---------------------------------------------------------------------------------------------------------
#
# Each takes an array of one or two axes and gives one of the same elements. What lies between and around them is NaN,
# so that a kernel that takes it in cannot hide it.


def placed(array: np.ndarray, steps: tuple[int, ...], order: str = "C", margin: int = 3) -> np.ndarray:
    """The array inside a larger one of NaN: its elements so many places apart along each axis, backwards if < 0."""
    reach = [(length - 1) * abs(step) + 1 for length, step in zip(array.shape, steps, strict=True)]
    whole = np.full([length + 2 * margin for length in reach], np.nan, array.dtype, order)
    part = [slice(margin, margin + length, abs(step)) for length, step in zip(reach, steps, strict=True)]
    view = whole[tuple(part)][tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
    view[...] = array
    return view


def packed(array: np.ndarray, order: str) -> np.ndarray:
    """Contiguous, with NaN before and after."""
    margin = 64
    whole = np.full(array.size + 2 * margin, np.nan, array.dtype)
    view = whole[margin : margin + array.size].reshape(array.shape, order=order)
    view[...] = array
    return view


def axes(array: np.ndarray, *steps: int) -> tuple[int, ...]:
    """The steps of a matrix; a vector takes the first."""
    return steps[: array.ndim]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda array: packed(array, "C"),
    "Fortran": lambda array: packed(array, "F"),
    "strided": lambda array: placed(array, axes(array, 2, 3)),
    "strided Fortran": lambda array: placed(array, axes(array, 3, 2), "F"),
    "reversed": lambda array: placed(array, axes(array, -1, -1), margin=0),
    "reversed Fortran": lambda array: placed(array, axes(array, -1, -1), "F", margin=0),
    "rows apart": lambda array: placed(array, axes(array, 1, 1)),
    "columns apart": lambda array: placed(array, axes(array, 1, 1), "F"),
    "rows backwards": lambda array: placed(array, axes(array, -2, 1)),
}
