"""Any source of data as row blocks.

A block is what the engine hands to a thread and adds up in order. How the rows are cut depends on their number and
size alone, never on the threads, so that sums have the same bits on any number of them. The pieces of a block are
what a kernel reads at once: views of some milliseconds' work where the arrays are native floats, else converted
buffers of `PIECE_BYTES`, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from fastgd._csr import CSR
from fastgd._rows import RowBlock, is_native
from fastgd._sparse import SparseBlock
from fastgd._validation import kernel_dtype

__all__ = ["Block", "Native", "row_blocks", "sparse_blocks"]

BLOCK_BYTES = 1 << 21   # a pass over fewer bytes is too short to share among threads
PIECE_BYTES = 1 << 19
MAX_BLOCKS = 32
WHOLE_TILES = 256       # blocks end where the kernels' tiles do,
WHOLE_PANELS = 8        # and of rows so wide that few of them are a block, where panels do
LEAST_ROWS = 128        # in a block: the sums that are kept for each stay below 2 % of X
LONG_RUN = 4096         # rows that a block keeps together where columns are contiguous
SUMS_SHARE = 50         # sums of sparse blocks take at most this fraction of X's bytes


#: What a kernel reads at once.
Native = RowBlock | SparseBlock


class Block(Protocol):
    """Rows that can be read as native blocks, piece by piece."""

    @property
    def X(self) -> np.ndarray | CSR: ...

    @property
    def y(self) -> np.ndarray | None: ...

    @property
    def s(self) -> np.ndarray | None: ...

    def pieces(self) -> Iterable[Native]: ...


class ConvertedBlock:
    """Rows of arrays that no kernel reads in place: other dtypes, swapped bytes, unaligned elements."""

    def __init__(self, X: np.ndarray, y: np.ndarray | None, s: np.ndarray | None) -> None:
        self.X, self.y, self.s = X, y, s

    def pieces(self) -> Iterator[RowBlock]:
        dtype = kernel_dtype(self.X.dtype)
        rows = max(1, PIECE_BYTES // (self.X.shape[1] * dtype.itemsize))
        for start in range(0, len(self.X), rows):
            part = slice(start, start + rows)
            yield RowBlock(
                np.require(self.X[part], dtype, ["C", "A"]),
                None if self.y is None else np.require(self.y[part], np.float64, ["C", "A"]),
                None if self.s is None else np.require(self.s[part], np.float64, ["C", "A"]),
            )


class ConvertedSparseBlock:
    """Sparse rows whose data, targets or weights no kernel reads in place; their indices it does."""

    def __init__(self, X: CSR, y: np.ndarray | None, s: np.ndarray | None) -> None:
        self.X, self.y, self.s = X, y, s

    def pieces(self) -> Iterator[SparseBlock]:
        dtype = kernel_dtype(self.X.dtype)
        for start, stop in self.X.cuts(PIECE_BYTES // dtype.itemsize):
            rows, part = self.X[start:stop], slice(start, stop)
            yield SparseBlock(
                CSR(np.require(rows.data, dtype, ["C", "A"]), rows.indices, rows.indptr, rows.shape[1], rows.ascending),
                None if self.y is None else np.require(self.y[part], np.float64, ["C", "A"]),
                None if self.s is None else np.require(self.s[part], np.float64, ["C", "A"]),
            )


def rows_per_block(n_samples: int, row_bytes: int, least: int) -> int:
    """Rows in a block: at most MAX_BLOCKS blocks, each of at least BLOCK_BYTES and `least` rows."""
    rows = max(-(-n_samples // MAX_BLOCKS), -(-BLOCK_BYTES // row_bytes), least)
    whole = WHOLE_TILES if rows > WHOLE_TILES else WHOLE_PANELS
    return -(-rows // whole) * whole


def row_blocks(X: np.ndarray | CSR, y: np.ndarray | None, s: np.ndarray | None, least: int = LEAST_ROWS) -> list[Block]:
    """The blocks of an array, in order.

    Parameters
    ----------
    X, y, s : ndarray
        Validated data, targets and weights of matching lengths; X may be CSR.
    least : int
        Rows a block must at least have: what is kept for each block must stay small beside its rows.
    """
    if isinstance(X, CSR):
        return [*sparse_blocks(X, y, s)]
    native = all(array is None or is_native(array) for array in (X, y, s))
    kind = RowBlock if native else ConvertedBlock
    if X.strides[0] == X.itemsize and X.shape[1] > 1:
        least = max(least, LONG_RUN)
    rows = rows_per_block(len(X), X.shape[1] * kernel_dtype(X.dtype).itemsize, least)
    if rows >= len(X):
        return [kind(X, y, s)]
    return [
        kind(X[part], None if y is None else y[part], None if s is None else s[part])
        for part in (slice(start, start + rows) for start in range(0, len(X), rows))
    ]


def sparse_blocks(X: CSR, y: np.ndarray | None, s: np.ndarray | None) -> Sequence[SparseBlock | ConvertedSparseBlock]:
    """The blocks of sparse rows: as many entries in each, so few of them that their sums stay small beside X."""
    native = X.data.flags.c_contiguous and all(array is None or is_native(array) for array in (X.data, y, s))
    kind = SparseBlock if native else ConvertedSparseBlock
    count = min(MAX_BLOCKS, X.nbytes // BLOCK_BYTES, X.nbytes // (SUMS_SHARE * 8 * (X.shape[1] + 2)))
    starts = sorted({0, *(X.row_of(len(X.data) * k // count) for k in range(1, count))})
    return [
        kind(X[part], None if y is None else y[part], None if s is None else s[part])
        for part in map(slice, starts, [*starts[1:], len(X)])
    ]
