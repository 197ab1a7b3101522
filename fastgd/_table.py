"""What all tables have in common: names of columns, and batches of those that are asked for.

Rows are counted from 1, without the header.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastgd._columns import ColumnError
from fastgd._words import nearest, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "Table", "rows_at_once", "said_of"]

#: Of columns, about what a batch holds; and its rows, at least.
BATCH_BYTES = 1 << 22
LEAST_ROWS = 1024
#: Names that a message lists.
SHOWN_NAMES = 8


class Batch(NamedTuple):
    """Consecutive rows of the columns that were asked for, and how much of the file has been read, from 0 to 1."""

    columns: list[pa.Array]
    n_rows: int
    done: float


class Table(ABC):
    """A file with named columns.

    Attributes
    ----------
    path : Path
    names : list of str
    """

    path: Path
    names: list[str]

    @abstractmethod
    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        """The columns of these names, numbers first, batch after batch."""

    def where(self, row: int) -> str:
        """The place of a row, counted from 1, as the user finds it."""
        return f"row {row:,}"

    def require(self, names: Sequence[str], what: str) -> None:
        """Raise ValueError for the first name that no column has, or more than one.

        The nearest name of a column is suggested (Ratcliff and Obershelp's measure, as in `difflib`).
        """
        for name in names:
            if name not in self.names:
                raise ValueError(f"{what} {name!r} is no column of {self.path}; {self.suggestion(name)}")
            if self.names.count(name) > 1:
                raise ValueError(f"{what} {name!r} is the name of {self.names.count(name)} columns of {self.path}")

    def suggestion(self, name: str) -> str:
        if not self.names:
            return "it has no columns"
        more = "" if len(self.names) <= SHOWN_NAMES else f" and {len(self.names) - SHOWN_NAMES:,} more"
        return nearest(name, self.names, f"it has {', '.join(map(quoted, self.names[:SHOWN_NAMES]))}{more}", quoted)


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Errors of libraries in one line, with the file's name before it."""
    try:
        yield
    except ColumnError:
        raise
    except (ValueError, OSError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        message = str(error).strip().split("\n")[0]
        raise ValueError(message if message.startswith(str(path)) else f"{path} cannot be read: {message}") from None


def rows_at_once(n_columns: int) -> int:
    return max(LEAST_ROWS, BATCH_BYTES // (8 * max(1, n_columns)))
