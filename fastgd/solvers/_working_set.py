"""The products of some columns of X with one another: what a method needs of the data that knows which ones count."""

from __future__ import annotations

import numpy as np

from fastgd._csr import CSR
from fastgd.objective import MSE
from fastgd.solvers._scaling import Coordinates

__all__ = ["WorkingSet"]

#: Numbers in a buffer of rows, or pairs of entries of sparse rows, that are multiplied at once.
PANEL = 1 << 18
PAIRS = 1 << 20


class WorkingSet:
    """Columns of X in the order in which they were added, and half the Hessian of F by their parameters.

    Parameters
    ----------
    objective : MSE
    coordinates : Coordinates
        In which the parameters are.
    """

    def __init__(self, objective: MSE, coordinates: Coordinates) -> None:
        self.objective, self.coordinates = objective, coordinates
        self.columns = np.empty(0, np.intp)
        self.matrix = np.empty((0, 0))

    def extend(self, columns: np.ndarray) -> None:
        """Add columns that are not yet there, in one pass over the rows."""
        objective, geometry, scale = self.objective, self.coordinates.geometry, self.coordinates.scale
        old, held = len(self.columns), np.concatenate([self.columns, columns])
        means = geometry.means[held]
        if isinstance(objective.X, CSR):
            cross = sparse_products(objective, held, old)
            cross -= geometry.weight * np.outer(means, means[old:])
        else:
            cross = dense_products(objective, held, means, old)
        cross /= geometry.weight
        cross[old:].flat[:: len(columns) + 1] += objective.l2
        cross *= scale[held, None]
        cross *= scale[held[old:]]
        matrix = np.empty((len(held), len(held)))
        matrix[:old, :old] = self.matrix
        matrix[:, old:], matrix[old:, :old] = cross, cross[:old].T
        self.columns, self.matrix = held, matrix


def dense_products(objective: MSE, columns: np.ndarray, means: np.ndarray, old: int) -> np.ndarray:
    """Z'SZ of these columns less their means, and of it the columns from `old` on."""
    cross = np.zeros((len(columns), len(columns) - old))
    step = max(256, PANEL // len(columns))
    whole = len(columns) == objective.n_features and bool((np.diff(columns) == 1).all())
    for block in objective.blocks:
        for rows in block.pieces():
            for start in range(0, len(rows), step):
                part = rows.X[start : start + step]
                panel = (part if whole else part.take(columns, axis=1)) - means
                weighted = panel if rows.s is None else panel * rows.s[start : start + step, None]
                cross += weighted.T @ panel[:, old:]
    return cross


def sparse_products(objective: MSE, columns: np.ndarray, old: int) -> np.ndarray:
    """X'SX of these columns, and of it the columns from `old` on: each row adds the products of its entries."""
    places = np.full(objective.n_features, -1)
    places[columns] = np.arange(len(columns))
    cross = np.zeros((len(columns), len(columns) - old))
    for block in objective.blocks:
        for piece in block.pieces():
            rows, place, value = entries(piece.X, places)
            weighted = value if piece.s is None else value * piece.s[rows]
            add_pairs(rows, place, value, weighted, old, cross)
    return cross


def entries(X: CSR, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, place and value of the entries in columns that have a place."""
    place = places[X.indices]
    kept = np.flatnonzero(place >= 0)
    rows = np.searchsorted(X.indptr, kept + X.indptr[0], side="right") - 1
    return rows, place[kept], X.data[kept].astype(np.float64)


def add_pairs(
    rows: np.ndarray, place: np.ndarray, value: np.ndarray, weighted: np.ndarray, old: int, cross_out: np.ndarray
) -> None:
    """Add the products of each entry with those of its row whose place is not below `old`."""
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
        cross_out += np.bincount(target, products, cross_out.size).reshape(cross_out.shape)
        start = stop
