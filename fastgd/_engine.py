"""Sums of a kernel over row blocks, in a fixed order, on any number of threads.

Each block is summed by itself and the blocks' sums are added in the order of the blocks, so the bits of a result do
not depend on how many threads there were or which was faster. Threads are Python's own; the kernels they run hold no
lock.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from fastgd._blocks import Block
from fastgd._validation import as_positive_integer

__all__ = ["resolve_threads", "sum_blocks"]

#: Bytes of X below which a pass ends before a second thread would have helped.
SHARED_BYTES = 1 << 24

#: Sums of all blocks that one thread keeps at once, at most, because that takes less time than to add each in turn.
MANY_SUMS = 1 << 14

Kernel = Callable[[Any, np.ndarray], Any]
Task = tuple[Block, np.ndarray]

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def usable_cpus() -> int:
    """CPUs this process may run on, or OMP_NUM_THREADS if that is less."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cpus = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cpus, max(1, int(limit))) if limit.isdigit() else cpus


def resolve_threads(n_threads: int | None) -> int:
    """The threads to use: as many as asked for and no more than there are CPUs for; one inside a worker thread."""
    asked = None if n_threads is None else as_positive_integer(n_threads, "n_threads")
    if asked == 1 or threading.current_thread() is not threading.main_thread():
        return 1
    return usable_cpus() if asked is None else min(asked, usable_cpus())


def sum_blocks(
    blocks: Sequence[Block], kernel: Kernel, size: int, n_threads: int, out: np.ndarray | None = None
) -> np.ndarray:
    """The sum over all blocks of what the kernel adds to a vector of `size` doubles.

    Parameters
    ----------
    blocks : sequence of Block
    kernel : callable
        ``kernel(rows, out)`` adds the sums of native rows to ``out``.
    size : int
    n_threads : int
        As `resolve_threads` gave it.
    out : ndarray of shape (size,), optional
        Zeros, to hold the result.
    """
    workers = min(n_threads, len(blocks)) if blocks[0].X.nbytes * len(blocks) >= SHARED_BYTES else 1
    if workers == 1 and len(blocks) * size > MANY_SUMS:
        return sum_one_by_one(blocks, kernel, np.zeros(size) if out is None else out)
    sums = np.zeros((len(blocks), size)) if out is None or len(blocks) > 1 else out[None]
    if workers > 1:
        share(blocks, kernel, sums, workers)
    else:
        for block, part in zip(blocks, sums, strict=True):
            for rows in block.pieces():
                kernel(rows, part)
    return sums[0] if len(blocks) == 1 else np.add.reduce(sums, axis=0, out=out)


def sum_one_by_one(blocks: Sequence[Block], kernel: Kernel, total: np.ndarray) -> np.ndarray:
    """Add the sums of block after block to zeros: the same sums in the same order, of which only one is kept."""
    part = np.zeros(len(total))
    for block in blocks:
        for rows in block.pieces():
            kernel(rows, part)
        total += part
        part[:] = 0.0
    return total


def share(blocks: Sequence[Block], kernel: Kernel, sums: np.ndarray, workers: int) -> None:
    """Sum each block into its row of `sums`, on so many threads.

    Each begins with a stretch of its own, from the front, because the memory serves streams that are far apart best;
    whoever is done with his takes from the ends of the others'.
    """
    n, tasks = len(blocks), list(zip(blocks, sums, strict=True))
    stretches = [deque(tasks[n * k // workers : n * (k + 1) // workers]) for k in range(workers)]
    stopped: list[bool] = []

    def work(own: int) -> None:
        try:
            for block, out in chain(drained(stretches[own].popleft), *(drained(other.pop) for other in stretches)):
                for rows in block.pieces():
                    if stopped:
                        return
                    kernel(rows, out)
        except BaseException:
            stopped.append(True)
            raise

    helpers = [pool().submit(work, k) for k in range(1, workers)]
    try:
        work(0)
    finally:
        for helper in helpers:
            if not helper.cancel():  # one that has not begun has nothing left to do
                helper.result()


def drained(take: Callable[[], Task]) -> Iterator[Task]:
    """What `take` gives until its deque is empty; taking is atomic, so each block is taken once."""
    with suppress(IndexError):
        while True:
            yield take()


def pool() -> ThreadPoolExecutor:
    """The process's helper threads, started at first use."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="fastgd")
        return _pool


def _forget_pool() -> None:
    """A forked child has no threads but the one that forked: it starts its own."""
    global _pool, _pool_lock
    _pool = None
    _pool_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
