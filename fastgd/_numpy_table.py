"""Arrays of NumPy's files as tables."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastgd._columns import ColumnError
from fastgd._table import Batch, Table, rows_at_once, said_of

__all__ = ["Numpy"]


class Numpy(Table):
    """Arrays of NumPy: one of two axes or of named fields (.npy), or several with the same number of rows (.npz).

    A column of a matrix is named after its array, which in a .npy is ``x``, with its number: ``x0``, ``x1``. An array
    of one axis, or of one column, is named as in the file. Arrays in C order are read row by row, also where they are
    compressed; those in Fortran order as a whole.
    """

    def __init__(self, path: Path, ending: str, compression: str | None) -> None:  # noqa: ARG002
        self.path = path
        self.archive = ending == ".npz"
        members = [""]
        if self.archive:
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
        #: Of each column the array that holds it, and its place there.
        self.places: dict[str, tuple[str, str | int]] = {}
        lengths = {}
        self.names = []
        for member in members:
            with self.opened(member) as file:
                shape, _, dtype = header_of(file)
            name = member.removesuffix(".npy") or "x"
            columns = columns_of(name, shape, dtype)
            lengths[name] = shape[0]
            self.names += columns
            self.places |= {column: (member, place) for column, place in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{path}: its arrays have different numbers of rows: {lengths}")
        self.n_rows = max(lengths.values(), default=0)

    @contextmanager
    def opened(self, member: str) -> Iterator[Any]:
        if not self.archive:
            with open(self.path, "rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
            yield file

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        import pyarrow as pa

        places = {name: self.places[name] for name in (*numbers, *texts)}
        rows = rows_at_once(len(self.names))
        readers = {member: self.pieces(member, rows) for member, _ in places.values()}
        with said_of(self.path):
            for start in range(0, self.n_rows, rows):
                pieces = {member: next(reader) for member, reader in readers.items()}
                values = [column_at(pieces[member], place, name) for name, (member, place) in places.items()]
                n_rows = min(rows, self.n_rows - start)
                yield Batch([pa.array(value) for value in values], n_rows, (start + n_rows) / self.n_rows)

    def pieces(self, member: str, rows: int) -> Iterator[np.ndarray]:
        """So many rows of an array at a time."""
        with self.opened(member) as file:
            shape, fortran, dtype = header_of(file)
            if fortran and len(shape) > 1:
                whole = np.frombuffer(exactly(file, dtype.itemsize * shape[0] * shape[1]), dtype)
                whole = whole.reshape(shape[::-1]).T
                yield from (whole[start : start + rows] for start in range(0, shape[0], rows))
                return
            for start in range(0, shape[0], rows):
                part = (min(rows, shape[0] - start), *shape[1:])
                yield np.frombuffer(exactly(file, dtype.itemsize * int(np.prod(part))), dtype).reshape(part)


def header_of(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype of the array that follows."""
    readers: dict[tuple[int, int], Callable[[Any], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format is not known")
    return readers[version](file)


def columns_of(name: str, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, str | int]:
    """The names of an array's columns, and their places in it."""
    if dtype.hasobject:
        raise ValueError(f"its array {name!r} holds Python objects, which are not read")
    if dtype.names and len(shape) == 1:
        return {field: field for field in dtype.names}
    if dtype.names or len(shape) not in (1, 2):
        raise ValueError(f"its array {name!r} has shape {shape}; it must have one or two axes")
    if len(shape) == 1 or shape[1] == 1:
        return {name: 0}
    return {f"{name}{place}": place for place in range(shape[1])}


def column_at(piece: np.ndarray, place: str | int, name: str) -> np.ndarray:
    """A column of these rows, in the byte order of this machine.

    Raises
    ------
    ColumnError
        If its elements are arrays, records or complex numbers.
    """
    column = piece[place] if isinstance(place, str) else piece.reshape(len(piece), -1)[:, place]
    if column.ndim > 1 or column.dtype.kind in "cV":
        kind = f"arrays of shape {column.shape[1:]}" if column.ndim > 1 else f"{column.dtype} elements"
        raise ColumnError(name, None, f"holds {kind}, which are not read", missing=True)
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8")
    wide = column.dtype.kind == "f" and column.dtype.itemsize > 8
    return column.astype(np.float64 if wide else column.dtype.newbyteorder("="), copy=False)


def exactly(file: Any, size: int) -> bytes:
    content: bytes = file.read(size)
    if len(content) < size:
        raise ValueError("it is cut short")
    return content
