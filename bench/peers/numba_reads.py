"""Plain ways to read an array once, compiled by Numba; they hold no lock."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(fastmath=True, nogil=True, cache=True)
def total(x: np.ndarray) -> float:
    result = x.dtype.type(0)
    for i in range(len(x)):
        result += x[i]
    return result


@njit(fastmath=True, nogil=True, cache=True)
def four_totals(x: np.ndarray) -> float:
    """The sums of the four quarters, side by side."""
    quarter = len(x) // 4
    a = b = c = d = x.dtype.type(0)
    for i in range(quarter):
        a += x[i]
        b += x[i + quarter]
        c += x[i + 2 * quarter]
        d += x[i + 3 * quarter]
    for i in range(4 * quarter, len(x)):
        a += x[i]
    return a + b + c + d
