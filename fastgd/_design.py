"""From columns of a table to the matrix X: which features, in which order, and categories as columns of zeros and ones.

A category of k values becomes k - 1 columns, one for each value but the first in alphabetical order, to which the
intercept belongs: the others' coefficients are differences from it. With a column for each, the columns would add up to
that of the intercept, and no coefficient would be determined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastgd._columns import ColumnError, as_numbers, as_texts
from fastgd._table import Table
from fastgd._words import quoted
from fastgd.result import FitResult

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Design", "Rows", "find_categories"]

#: Values of a category, at most: each is a column of X.
MOST_CATEGORIES = 10_000
#: Values that a message lists.
SHOWN_VALUES = 5


@dataclass(frozen=True)
class Design:
    """The columns of X, by what they are made of.

    Attributes
    ----------
    features : tuple of str
        Columns of the table, in the order of X.
    categories : dict of tuple of str
        Of those that hold text, the values.
    columns : tuple of str
        The names of the columns of X: ``size``, ``city=Oslo``.
    """

    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, features: Sequence[str], categories: dict[str, tuple[str, ...]]) -> Design:
        """The design of these features, the first value of a category left out.

        Raises
        ------
        ValueError
            If two columns of X get the same name, or there is none.
        """
        columns: list[str] = []
        taken: set[str] = set()
        for feature in features:
            values = categories.get(feature)
            names = [feature] if values is None else [f"{feature}={value}" for value in values]
            twice = taken.intersection(names)
            if twice:
                name = min(twice)
                raise ValueError(f"the value of a category and a column are both named {name!r}; rename the column")
            taken.update(names)
            columns += names if values is None else names[1:]
        if not columns:
            raise ValueError("no feature is left: each of the categories has one value only")
        return cls(tuple(features), categories, tuple(columns))

    @classmethod
    def of_model(cls, result: FitResult) -> Design | None:
        """That of a fitted model, None if it does not know the names of its columns."""
        if result.feature_names is None:
            return None
        categories = result.categories or {}
        owners = {f"{name}={value}": name for name, values in categories.items() for value in values}
        features = dict.fromkeys([owners.get(column, column) for column in result.feature_names])
        # a category of one value has no column, but is not to have another value
        without = (name for name in categories if name not in features)
        return cls((*features, *without), categories, result.feature_names)

    @property
    def numbers(self) -> list[str]:
        return [name for name in self.features if name not in self.categories]

    def matrix(self, numbers: dict[str, np.ndarray], codes: dict[str, np.ndarray], n_rows: int) -> np.ndarray:
        """X of these rows, given the numeric columns and for each category the places of its values."""
        X = np.zeros((n_rows, len(self.columns)))
        places = {column: place for place, column in enumerate(self.columns)}
        for name, values in numbers.items():
            X[:, places[name]] = values
        for name, code in codes.items():
            of_values = [places.get(f"{name}={value}", -1) for value in self.categories[name]]
            column = np.array(of_values)[code]
            rows = np.flatnonzero(column >= 0)
            X[rows, column[rows]] = 1.0
        return X


class Rows:
    """The rows of a table as X and, with a target, y; batch after batch.

    Parameters
    ----------
    table : Table
    design : Design
    target : str, optional
    """

    def __init__(self, table: Table, design: Design, target: str | None = None) -> None:
        self.table, self.design, self.target = table, design, target

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """X, y (empty without a target) and the share of the file that has been read.

        Raises
        ------
        ValueError
            If the file is not what it should be, or holds what X and y must not; with the place.
        """
        numbers = self.design.numbers + ([] if self.target is None else [self.target])
        texts = [name for name in self.design.features if name in self.design.categories]
        seen = 0
        try:
            for batch in self.table.batches(numbers, texts):
                if not batch.n_rows:
                    continue
                arrays = dict(zip([*numbers, *texts], batch.columns, strict=True))
                values = {name: as_numbers(arrays[name], name, seen + 1) for name in numbers}
                codes = {name: self.codes(arrays[name], name, seen + 1) for name in texts}
                y = np.empty(0) if self.target is None else values.pop(self.target)
                yield self.design.matrix(values, codes, batch.n_rows), y, batch.done
                seen += batch.n_rows
        except ColumnError as error:
            raise ValueError(self.explained(error)) from None
        if not seen:
            raise ValueError(f"{self.table.path} has no rows")

    def codes(self, column: pa.Array, name: str, first_row: int) -> np.ndarray:
        """The places of the values among the categories."""
        import pyarrow as pa
        from pyarrow import compute

        texts = as_texts(column, name, first_row)
        known = self.design.categories[name]
        codes = compute.index_in(texts, pa.array(known, pa.string()))
        if codes.null_count:
            place = int(codes.is_null().to_numpy(zero_copy_only=False).argmax())
            more = "" if len(known) <= SHOWN_VALUES else f" and {len(known) - SHOWN_VALUES:,} more"
            raise ColumnError(
                name,
                first_row + place,
                f"holds {quoted(str(texts[place]))}, which the model has not seen; it knows "
                f"{', '.join(map(quoted, known[:SHOWN_VALUES]))}{more}",
                missing=True,
            )
        return codes.to_numpy(zero_copy_only=False)

    def explained(self, error: ColumnError) -> str:
        """What is wrong in the file, where, and what can be done about it."""
        column = "target" if error.column == self.target else "column"
        where = "" if error.row is None else f", {self.table.where(error.row)}"
        message = f"{self.table.path}{where}: {column} {error.column!r} {error.problem}"
        if error.missing:
            return message
        if error.column == self.target:
            return f"{message}; it must hold numbers"
        if self.target is None:
            return f"{message}; the model has it as a number"
        return f"{message}; declare it with --categorical {error.column}, or choose others with --features"


def find_categories(
    table: Table, names: Sequence[str], seen_so_far: Callable[[float, int], None]
) -> dict[str, tuple[str, ...]]:
    """The values of text columns in alphabetical order, found in one pass.

    Raises
    ------
    ValueError
        If one is missing, or there are more of them than a fit is good for.
    """
    from pyarrow import compute

    found: dict[str, set[str]] = {name: set() for name in names}
    seen = 0
    try:
        for batch in table.batches([], names):
            for name, column in zip(names, batch.columns, strict=True):
                found[name].update(compute.unique(as_texts(column, name, seen + 1)).to_pylist())
                if len(found[name]) > MOST_CATEGORIES:
                    raise ColumnError(name, None, f"has more than {MOST_CATEGORIES:,} values; is it an identifier?")
            seen += batch.n_rows
            seen_so_far(batch.done, seen)
    except ColumnError as error:
        where = "" if error.row is None else f", {table.where(error.row)}"
        raise ValueError(f"{table.path}{where}: {error}") from None
    return {name: tuple(sorted(values)) for name, values in found.items()}
