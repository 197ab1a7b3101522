"""The products of some columns of X with one another: what a method needs of the data that knows which ones count."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock
from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._scaling import Coordinates

__all__ = ["Columns", "ColumnsOfMoments", "WorkingSet"]

#: Numbers in a buffer of rows; of sparse rows, entries that are looked at and pairs that are multiplied at once.
PANEL = 1 << 18
ENTRIES = 1 << 18
PAIRS = 1 << 19


class Columns(ABC):
    """Columns of X in the order in which they were added, and half the Hessian of F by their parameters.

    Parameters
    ----------
    coordinates : Coordinates
        In which the parameters are.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        self.columns = np.empty(0, np.intp)
        self.matrix = np.empty((0, 0))

    def extend(self, columns: np.ndarray) -> None:
        """Add columns that are not yet there."""
        geometry, scale = self.coordinates.geometry, self.coordinates.scale
        old, held = len(self.columns), np.concatenate([self.columns, columns])
        cross = self.products(held, old)
        cross *= scale[held, None] / geometry.weight
        cross *= scale[columns]
        cross[old:].ravel()[:: len(columns) + 1] += geometry.l2 * scale[columns] ** 2
        matrix = np.empty((len(held), len(held)))
        matrix[:old, :old] = self.matrix
        matrix[:, old:], matrix[old:, :old] = cross, cross[:old].T
        self.columns, self.matrix = held, matrix

    @abstractmethod
    def products(self, columns: np.ndarray, old: int) -> np.ndarray:
        """Z'SZ of these columns less their means, and of it the columns from number `old` on."""


class WorkingSet(Columns):
    """The same, formed from the rows: one pass over X each time.

    Parameters
    ----------
    objective : MSE
    coordinates : Coordinates
    """

    FIXED = frozenset({"objective", "coordinates"})

    def __init__(self, objective: MSE, coordinates: Coordinates) -> None:
        super().__init__(coordinates)
        self.objective = objective

    def products(self, columns: np.ndarray, old: int) -> np.ndarray:
        """One pass over X."""
        geometry = self.coordinates.geometry
        means = geometry.means[columns]
        cross = np.zeros((len(columns), len(columns) - old))
        for block in self.objective.blocks:
            for rows in block.pieces():
                if isinstance(rows, RowBlock):
                    add_dense(rows, columns, means, cross)
                else:
                    add_sparse(rows, columns, cross)
        if isinstance(self.objective.X, CSR):
            cross -= geometry.weight * np.outer(means, means[old:])
        return cross


class ColumnsOfMoments(Columns):
    """Columns whose products moments know.

    Parameters
    ----------
    moments : SecondMoments
    coordinates : Coordinates
    """

    FIXED = frozenset({"moments", "coordinates"})

    def __init__(self, moments: SecondMoments, coordinates: Coordinates) -> None:
        super().__init__(coordinates)
        self.moments = moments

    def products(self, columns: np.ndarray, old: int) -> np.ndarray:
        """Those about the shift, moved to the means."""
        gram, new = self.moments.gram, columns[old:]
        step = self.moments.shift[columns] - self.coordinates.geometry.means[columns]
        sums = gram[-1, columns]
        cross: np.ndarray = gram[columns[:, None], new]
        cross += np.multiply.outer(step, sums[old:] + gram[-1, -1] * step[old:])
        cross += np.multiply.outer(sums, step[old:])
        return cross


def add_dense(rows: RowBlock, columns: np.ndarray, means: np.ndarray, cross_out: np.ndarray) -> None:
    """Add Z'SZ of these columns less their means, and of it the last columns, as many as there is room for."""
    old = len(columns) - cross_out.shape[1]
    whole = old == 0 and len(columns) == rows.X.shape[1]    # and then in order
    step = max(256, PANEL // len(columns))
    for start in range(0, len(rows), step):
        part = rows.X[start : start + step]
        panel = (part if whole else part.take(columns, axis=1)) - means
        if rows.s is not None:
            panel *= np.sqrt(rows.s[start : start + step, None])
        new = panel[:, old:]
        cross_out[old:] += new.T @ new
        if old:
            cross_out[:old] += panel[:, :old].T @ new


def add_sparse(rows: SparseBlock, columns: np.ndarray, cross_out: np.ndarray) -> None:
    """Add X'SX of these columns, and of it the last ones likewise: of each row, the products of its entries."""
    places = np.full(rows.X.shape[1], -1)
    places[columns] = np.arange(len(columns))
    for start, stop in rows.X.cuts(ENTRIES):
        numbers, place, value = entries(rows.X[start:stop], places)
        weighted = value if rows.s is None else value * rows.s[start:stop][numbers]
        add_pairs(numbers, place, value, weighted, cross_out)


def entries(X: CSR, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, place and value of the entries in columns that have a place."""
    place = places[X.indices]
    kept = np.flatnonzero(place >= 0)
    rows = np.searchsorted(X.indptr, kept + X.indptr[0], side="right") - 1
    return rows, place[kept], X.data[kept].astype(np.float64)


def add_pairs(
    rows: np.ndarray, place: np.ndarray, value: np.ndarray, weighted: np.ndarray, cross_out: np.ndarray
) -> None:
    """Add the products of each entry with those of its row that are in the last columns."""
    old = cross_out.shape[0] - cross_out.shape[1]
    new = np.flatnonzero(place >= old)
    first = np.searchsorted(rows[new], rows)    # of an entry, its first partner in `new`
    count = np.searchsorted(rows[new], rows, side="right") - first
    before = np.append(0, np.cumsum(count))
    width = cross_out.shape[1]
    start = 0
    while start < len(rows):
        stop = max(int(np.searchsorted(before, before[start] + PAIRS, side="right")) - 1, start + 1)
        left = np.repeat(np.arange(start, stop), count[start:stop])
        right = new[np.arange(before[start], before[stop]) + (first - before[:-1])[left]]
        target = place[left] * width + (place[right] - old)
        products = weighted[left] * value[right]
        np.add.at(cross_out.ravel(), target, products)
        start = stop
