"""Run by `test_nothing_outside_the_data_is_read`, in a process of its own: data between pages that may not be read.

A kernel that reads a single byte before or after X, y or the weights ends this process with a segmentation fault.
With the argument "overrun" it does so itself, to show that it would.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from collections.abc import Iterator

import numpy as np

from fastgd import _cpu, _kernels, _moments, _mse, _rows, _sgd, _sparse
from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Fence:
    """Memory of so many pages between two that may not be touched."""

    def __init__(self, pages: int) -> None:
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        self.bytes = np.frombuffer(self.map, np.uint8)
        self.inside = self.bytes[PAGE:-PAGE]
        for guard in (self.bytes.ctypes.data, self.bytes.ctypes.data + (pages + 1) * PAGE):
            if libc.mprotect(guard, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")

    def hold(self, array: np.ndarray, order: str, at_end: bool) -> np.ndarray:
        """The array with its last byte before the second guard, or its first byte after the first one."""
        size = array.nbytes
        part = self.inside[-size:] if at_end else self.inside[:size]
        view = part.view(array.dtype).reshape(array.shape, order=order)
        view[...] = array
        return view


def layouts(fence: Fence, array: np.ndarray) -> Iterator[np.ndarray]:
    for order in "CF":
        for at_end in (True, False):
            yield fence.hold(array, order, at_end)
            yield fence.hold(array, order, at_end)[::-1]
            yield fence.hold(np.repeat(array, 2, axis=0), order, at_end)[1 if at_end else 0 :: 2]
            if array.ndim == 2:
                yield fence.hold(array, order, at_end)[:, ::-1]
                yield fence.hold(np.repeat(array, 2, axis=1), order, at_end)[:, 1 if at_end else 0 :: 2]


def read_sparse(fences: tuple[Fence, ...], rng: np.random.Generator) -> None:
    """Rows of every length, with parameters, data and indices that end, or start, where a page does."""
    d = 9
    for dtype, index, at_end in itertools.product((np.float32, np.float64), (np.int32, np.int64), (True, False)):
        for lengths, ascending in itertools.product(([1], [0, 3, 0], [4, 1, 2, 5], [8, 7, 6], [17]), (False, True)):
            indptr = np.cumsum([0, *lengths], dtype=index)
            arrays = rng.standard_normal(indptr[-1]).astype(dtype), rng.integers(0, d, indptr[-1], index), indptr
            held = [fence.hold(array, "C", at_end) for fence, array in zip(fences, arrays, strict=False)]
            w = fences[3].hold(rng.standard_normal(d), "C", at_end)
            y = fences[4].hold(rng.standard_normal(len(lengths)), "C", at_end)
            block = SparseBlock(CSR(*held, d, ascending), y, y)
            for level in _kernels.available():
                _kernels.use(level)
                _sparse.add_value(block, w, 0.5, np.zeros(d + 2))
                _sparse.add_sums(block, w, 0.5, np.zeros(d + 2))
                _sparse.predict(block, w, 0.5, np.zeros(len(lengths)))
                _sparse.add_columns(block, np.zeros(d + 1), np.zeros(2 * d + 4))
                _sparse.fill_panel(block, 0, np.zeros(d + 1), np.zeros((len(lengths), d + 2)))


def main() -> None:
    fences = Fence(20), Fence(1), Fence(1), Fence(1), Fence(1)
    if sys.argv[1:] == ["overrun"]:
        edge = fences[0].hold(np.ones(4), "C", True)
        print(np.lib.stride_tricks.as_strided(edge, (5,)).sum())
    rng = np.random.default_rng(0)
    read_sparse(fences, rng)
    for dtype in (np.float32, np.float64):
        for d in (*range(1, 34), 63, 64, 65, 128, 129, 200):
            for n in (1, 2, 3, 4, 5, 16, 17):
                data = rng.standard_normal((n, d)).astype(dtype), *np.abs(rng.standard_normal((2, n))).astype(dtype)
                w, shift = rng.standard_normal(d), np.zeros(d + 1)
                for X in layouts(fences[0], data[0]):
                    for y, s in zip(layouts(fences[1], data[1]), layouts(fences[2], data[2]), strict=True):
                        block = RowBlock(X, y, s)
                        _rows.use_streams(5 - _cpu.streams)
                        other = RowBlock(X, y, s)
                        _rows.use_streams(_cpu.streams)
                        for level in _kernels.available():
                            _kernels.use(level)
                            _mse.add_value(block, w, 0.5, np.zeros(d + 2))
                            _mse.add_sums(block, w, 0.5, np.zeros(d + 2))
                            _mse.add_sums(other, w, 0.5, np.zeros(d + 2))
                            _sgd.run(block, _sgd.State(w), np.arange(n), np.array([0.01]))
                            if d < 34:
                                _moments.add_gram(block, shift, np.zeros((d + 2) ** 2))
                        if not (X.flags.c_contiguous and d < 34):
                            break


if __name__ == "__main__":
    main()
