"""Files of every kind as batches of columns: what the command line reads from.

A `Table` knows the names of its columns and gives those that are asked for, a few megabytes at a time, as arrays of
pyarrow's. `as_numbers` and `as_texts` of `_columns` make float64 and strings of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastgd._arrow_tables import Arrow, Parquet
from fastgd._numpy_table import Numpy
from fastgd._table import Table, said_of
from fastgd._text_table import DELIMITERS, Text

__all__ = ["open_table"]

#: Endings of compressed text, and what pyarrow calls them.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
KINDS: dict[str, Callable[[Path, str, str | None], Table]] = {
    **dict.fromkeys(DELIMITERS, Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), Arrow),
    **dict.fromkeys((".npy", ".npz"), Numpy),
}


def open_table(path: str | Path) -> Table:
    """The table in a file, whose kind its name tells.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    OSError
        If there is no such file, or it may not be read.
    ValueError
        If the name tells no kind that is known, or the file is not of it or holds nothing.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ImportError("reading tables needs pyarrow: pip install 'fastgd[cli]'") from None
    path = Path(path)
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    compression = COMPRESSIONS.get(endings[-1]) if endings else None
    ending = (endings[-2] if len(endings) > 1 else "") if compression else endings[-1] if endings else ""
    opener = KINDS.get(ending)
    if opener is None or (compression and ending not in DELIMITERS):
        known = ", ".join(KINDS)
        raise ValueError(f"{path}: the name tells no kind of table that is known: {known}, or text ending in .gz")
    with open(path, "rb") as file:  # its own errors: no such file, no permission, a directory
        if not file.read(1):
            raise ValueError(f"{path} is empty")
    with said_of(path):
        return opener(path, ending, compression)
