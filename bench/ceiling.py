"""The roof: plain ways to read X once and do nothing else, timed in the same rounds on the same X.

`PLAIN` is the sum of all elements in one stream, vectorised. No single stream draws from memory all that a core can:
the sum over four quarters at once is often faster, and so is sometimes BLAS's dot product of X with itself. Where
several threads may work, each reads a part of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from contest import Run
from problems import Data

__all__ = ["PLAIN", "runs"]

PLAIN = "read: sum"


def runs(data: Data) -> dict[str, Run]:
    """Name -> a way to read X."""
    try:
        from peers import numba_reads
    except ImportError:
        ways = {PLAIN: dot}  # the best that NumPy has
    else:
        ways = {PLAIN: numba_reads.total, "read: BLAS dot": dot, "read: four streams": numba_reads.four_totals}
    return {name: Run(on_threads(way, data.arrays, data.threads), answer=None) for name, way in ways.items()}


def dot(x: np.ndarray) -> Any:
    """BLAS has no product of integers, those are the columns of a sparse X."""
    return x @ x if x.dtype.kind == "f" else x.sum()


def on_threads(way: Callable[[np.ndarray], Any], arrays: list[np.ndarray], threads: int) -> Callable[[], Any]:
    """Read all arrays, each thread a contiguous share of every one."""
    if threads == 1:
        return lambda: [way(array) for array in arrays]
    shares = list(zip(*(np.array_split(array, threads) for array in arrays), strict=True))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda share: [way(part) for part in share], shares))
