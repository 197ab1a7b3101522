"""Sparse rows, as everything above the kernels sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np

__all__ = ["CSR"]


class CSR:
    """A validated matrix in compressed sparse row format; it holds the caller's arrays.

    Row i has data[k] in column indices[k] for indptr[i] <= k + indptr[0] < indptr[i + 1]; columns come in any order,
    and where a row repeats one its entries add up. It is indexed as an array is: a slice of rows is CSR again, over
    the same memory; a list of rows, and one column, which are few numbers, come out dense.

    Parameters
    ----------
    data : ndarray of shape (nnz,)
    indices, indptr : ndarray of shape (nnz,) and (n + 1,)
        int32 or int64, both the same, contiguous.
    n_features : int
    ascending : bool, default False
        Whether the columns of every row are known to ascend, so that none repeats.
    """

    ndim = 2

    def __init__(
        self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, n_features: int, ascending: bool = False
    ) -> None:
        self.data, self.indices, self.indptr, self.ascending = data, indices, indptr, ascending
        self.shape = (len(indptr) - 1, n_features)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.indices.nbytes + self.indptr.nbytes

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.data, self.indices, self.indptr

    @overload
    def __getitem__(self, key: slice) -> CSR: ...
    @overload
    def __getitem__(self, key: list[int] | tuple[slice, Any]) -> np.ndarray: ...
    def __getitem__(self, key: Any) -> CSR | np.ndarray:
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            indptr = self.indptr[start : stop + 1]
            held = slice(*(indptr[[0, -1]] - self.indptr[0]))
            return CSR(self.data[held], self.indices[held], indptr, self.shape[1], self.ascending)
        if isinstance(key, tuple):
            return self._column(key[1])
        rows = np.zeros((len(key), self.shape[1]))
        for row, place in zip(rows, key, strict=True):
            part = self[place : place + 1]
            np.add.at(row, part.indices, part.data)
        return rows

    def _column(self, column: int) -> np.ndarray:
        values = np.zeros(len(self))
        for place in np.flatnonzero(self.indices == column):
            values[self.row_of(int(place))] += self.data[place]
        return values

    def row_of(self, place: int) -> int:
        """The row that an entry belongs to, which is given by its place in `data`; the last row for one beyond."""
        # The number sought has the type of indptr, of which NumPy would else make a copy of the type of the number.
        sought = self.indptr.dtype.type(min(place, len(self.data)) + int(self.indptr[0]))
        return min(int(np.searchsorted(self.indptr, sought, side="right")), len(self)) - 1

    def held(self) -> np.ndarray:
        """Whether any row has an entry in a column, for each column."""
        found = np.zeros(self.shape[1], bool)
        found[self.indices] = True
        return found

    def cuts(self, most: int) -> Iterator[tuple[int, int]]:
        """Where parts of so many entries, and rows, at most start and stop; a longer row is a part by itself."""
        start = 0
        while start < len(self):
            first = int(self.indptr[start]) - int(self.indptr[0])
            stop = self.row_of(first + most) if first + most < len(self.data) else len(self)
            stop = min(max(stop, start + 1), start + most)
            yield start, stop
            start = stop
