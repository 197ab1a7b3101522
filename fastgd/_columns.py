"""What columns of a table hold: numbers as float64, categories as strings, or what stands in the way, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgd._words import quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ColumnError", "as_numbers", "as_texts"]


class ColumnError(ValueError):
    """A value that its column must not hold.

    Attributes
    ----------
    column : str
    row : int or None
        Counted from 1; None where the whole column is of a wrong type.
    problem : str
        What stands there, such as ``holds the text 'Oslo'``.
    missing : bool
        Whether that is nothing, so that to declare the column as text would not help.
    """

    def __init__(self, column: str, row: int | None, problem: str, *, missing: bool = False) -> None:
        super().__init__(f"column {column!r} {problem}")
        self.column, self.row, self.problem, self.missing = column, row, problem, missing


def as_numbers(column: pa.Array, name: str, first_row: int) -> np.ndarray:
    """The values as float64, all of them finite.

    Raises
    ------
    ColumnError
        If they are no numbers, or one is missing, NaN or infinite.
    """
    import pyarrow as pa
    from pyarrow import compute, types

    kind = column.type
    refuse_missing(column, name, first_row)
    if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        is_text = types.is_dictionary(kind) or "string" in str(kind)    # also large ones and views
        raise ColumnError(name, first_row, f"holds {'the text' if is_text else f'{kind},'} {quoted(str(column[0]))}")
    column = column if kind == pa.float64() else compute.cast(column, pa.float64(), safe=False)
    values = column.to_numpy(zero_copy_only=False)
    finite = np.isfinite(values)
    if not finite.all():
        place = int(finite.argmin())
        missing = bool(np.isnan(values[place]))
        raise ColumnError(name, first_row + place, "has no value" if missing else "is infinite", missing=True)
    return values


def as_texts(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """The values as strings, none of them empty.

    Raises
    ------
    ColumnError
        If one is missing, or they cannot be written as text.
    """
    import pyarrow as pa
    from pyarrow import compute

    refuse_missing(column, name, first_row)
    try:
        texts = compute.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(name, None, f"holds {column.type}, which are no categories", missing=True) from None
    empty = compute.index(texts, "").as_py()
    if empty >= 0:
        raise ColumnError(name, first_row + empty, "has no value", missing=True)
    return texts


def refuse_missing(column: pa.Array, name: str, first_row: int) -> None:
    if column.null_count:
        place = int(column.is_null().to_numpy(zero_copy_only=False).argmax())
        raise ColumnError(name, first_row + place, "has no value", missing=True)
