"""Files of every kind as batches of columns: what the command line reads from.

A `Table` knows the names of its columns and gives those that are asked for, a few megabytes at a time, as arrays of
pyarrow's. `as_numbers` and `as_texts` make float64 and strings of them, or say in one line what stands in the way.

Rows are counted from 1, without the header.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastgd._words import nearest, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "ColumnError", "Table", "as_numbers", "as_texts", "open_table"]

#: Of columns, about what a batch holds; and its rows, at least.
BATCH_BYTES = 1 << 22
LEAST_ROWS = 1024
#: Of text, what is read at once, and at least for each column. pyarrow reads up to 32 times as much ahead.
TEXT_BYTES = 1 << 20
TEXT_BYTES_PER_COLUMN = 64
#: Of each column of a row group, what is read at once; without it, all of the group is.
PARQUET_BYTES = 1 << 18
#: Names that a message lists.
SHOWN_NAMES = 8
#: Endings of compressed text, and what pyarrow calls them.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


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


class Batch(NamedTuple):
    """Consecutive rows of the columns that were asked for, and how much of the file has been read, from 0 to 1."""

    columns: list[pa.Array]
    n_rows: int
    done: float


class Table:
    """A file with named columns.

    Attributes
    ----------
    path : Path
    names : list of str
    """

    path: Path
    names: list[str]

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        """The columns of these names, numbers first, batch after batch."""
        raise NotImplementedError

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


# ---- text ------------------------------------------------------------------------------------------------------------

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
#: What pyarrow says of a row or a value, which it counts with the header and without blank lines.
RAGGED = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
UNCONVERTED = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: invalid (.*)", re.DOTALL)


class Text(Table):
    """Values between delimiters, in UTF-8, a header before them; quotes may hold line breaks.

    The values that pandas takes for missing ones are missing, unless they are quoted.
    """

    def __init__(self, path: Path, ending: str, compression: str | None) -> None:
        self.path, self.compression, self.delimiter = path, compression, DELIMITERS[ending]
        with self.lines() as lines:
            try:
                record: list[str] = next((row for row in csv.reader(lines, delimiter=self.delimiter) if row), [])
            except csv.Error as error:
                raise ValueError(f"{path} has no header: {error}") from None
        if any("\udc80" <= letter <= "\udcff" for name in record for letter in name):
            raise ValueError(f"{path}: its header is not in UTF-8")
        if not record:
            raise ValueError(f"{path} is empty")
        self.names = record
        self.block = max(TEXT_BYTES, TEXT_BYTES_PER_COLUMN * len(record))

    @contextmanager
    def lines(self) -> Iterator[io.TextIOBase]:
        """The file's text, decompressed; line breaks, and bytes that are no UTF-8, are left as they are."""
        import pyarrow as pa

        with pa.input_stream(str(self.path), compression=self.compression) as stream:
            yield io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")

    def suggestion(self, name: str) -> str:
        others = [mark for mark in (",", ";", "\t", "|") if mark != self.delimiter and mark in self.names[0]]
        if len(self.names) == 1 and others:
            return f"the header is one name, {self.names[0]!r}: its values must be separated by {self.delimiter!r}"
        if all(is_number(known) for known in self.names):
            return f"the first line must hold names, and holds {', '.join(self.names[:SHOWN_NAMES])}"
        return super().suggestion(name)

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        types = {**dict.fromkeys(numbers, pa.float64()), **dict.fromkeys(texts, pa.string())}
        size = max(1, self.path.stat().st_size)
        with pa.OSFile(str(self.path)) as source:
            try:
                reader = arrow_csv.open_csv(
                    source if self.compression is None else pa.CompressedInputStream(source, self.compression),
                    # one thread, since only then does it know which row it is that has an error
                    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=self.block),
                    parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=types,
                        include_columns=list(types),
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                )
                for batch in reader:
                    yield Batch(batch.columns, len(batch), min(1.0, source.tell() / size))
            except (pa.ArrowInvalid, OSError) as error:
                raise self.explained(str(error)) from None

    def explained(self, message: str) -> ValueError:
        """What pyarrow has found wrong, as the user finds it in the file."""
        ragged, unconverted = RAGGED.match(message), UNCONVERTED.match(message)
        if ragged:
            row, expected, got = map(int, ragged.groups())
            return ValueError(f"{self.path}, line {self.line(row):,}: {got} values where the header has {expected}")
        if unconverted:
            name, row, rest = self.names[int(unconverted[1])], int(unconverted[2]) - 1, unconverted[3]
            if rest == "value ''":
                return ColumnError(name, row, "has no value", missing=True)
            text = rest.removeprefix("value '").removesuffix("'")
            hint = " (is a quote not closed?)" if "\n" in text else ""
            problem = "is not in UTF-8" if "UTF8" in rest else f"holds the text {quoted(text)}{hint}"
            return ColumnError(name, row, problem)
        if "cannot infer number of columns" in message:    # nothing after the header
            return ValueError(f"{self.path} has no rows")
        if "straddl" in message:
            return ValueError(f"{self.path}: a row has more than {self.block:,} bytes, or a quote is not closed")
        return ValueError(f"{self.path} cannot be read: {message.splitlines()[0]}")

    def where(self, row: int) -> str:
        return f"row {row:,} (line {self.line(row + 1):,})"

    def line(self, record: int) -> int:
        """The number of the line in which a record begins; the header is record 1, blank lines are none."""
        place, within = 0, False
        with self.lines() as lines:
            for number, line in enumerate(lines, 1):
                if not within and line.strip("\r\n"):
                    place += 1
                    if place == record:
                        return number
                within ^= line.count('"') % 2 == 1
        return number


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- Parquet and Arrow -----------------------------------------------------------------------------------------------


class Parquet(Table):
    """Apache Parquet, batch by batch of its row groups."""

    def __init__(self, path: Path, ending: str, compression: str | None) -> None:  # noqa: ARG002
        from pyarrow import parquet

        self.path = path
        with parquet.ParquetFile(str(path)) as file:
            self.names = file.schema_arrow.names

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        from pyarrow import parquet

        names = [*numbers, *texts]
        seen = 0
        with (
            said_of(self.path),
            parquet.ParquetFile(str(self.path), buffer_size=PARQUET_BYTES, pre_buffer=False) as file,
        ):
            total = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(rows_at_once(len(names)), columns=names):
                seen += len(batch)
                yield Batch([batch.column(name) for name in names], len(batch), seen / total)


class Arrow(Table):
    """Arrow's file format, which is Feather's too, or its stream; the file is mapped, not read into memory."""

    def __init__(self, path: Path, ending: str, compression: str | None) -> None:  # noqa: ARG002
        self.path = path
        with self.opened() as (_, schema):
            self.names = schema.names

    @contextmanager
    def opened(self) -> Iterator[tuple[Iterator[tuple[Any, float]], pa.Schema]]:
        """Record batches with the share of the file up to their ends, and the schema."""
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as source:
            try:
                file = pa.ipc.open_file(source)
            except pa.ArrowInvalid:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield ((batch, source.tell() / source.size()) for batch in stream), stream.schema
                return
            count = file.num_record_batches
            yield ((file.get_batch(place), (place + 1) / count) for place in range(count)), file.schema

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Batch]:
        names = [*numbers, *texts]
        rows = rows_at_once(len(names))
        with said_of(self.path), self.opened() as (batches, _):
            for batch, done in batches:
                for start in range(0, len(batch), rows):
                    part = batch.slice(start, rows)
                    yield Batch([part.column(name) for name in names], len(part), done)


# ---- NumPy -----------------------------------------------------------------------------------------------------------


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

        places = [self.places[name] for name in (*numbers, *texts)]
        rows = rows_at_once(len(self.names))
        readers = {member: self.pieces(member, rows) for member, _ in places}
        with said_of(self.path):
            for start in range(0, self.n_rows, rows):
                pieces = {member: next(reader) for member, reader in readers.items()}
                values = [column_at(pieces[member], place) for member, place in places]
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


def column_at(piece: np.ndarray, place: str | int) -> np.ndarray:
    """A column of these rows, in the byte order of this machine."""
    column = piece[place] if isinstance(place, str) else piece.reshape(len(piece), -1)[:, place]
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8")
    wide = column.dtype.kind == "f" and column.dtype.itemsize > 8
    return column.astype(np.float64 if wide else column.dtype.newbyteorder("="), copy=False)


def exactly(file: Any, size: int) -> bytes:
    content: bytes = file.read(size)
    if len(content) < size:
        raise ValueError("it is cut short")
    return content


KINDS: dict[str, Callable[[Path, str, str | None], Table]] = {
    **dict.fromkeys(DELIMITERS, Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), Arrow),
    **dict.fromkeys((".npy", ".npz"), Numpy),
}


# ---- what columns hold -----------------------------------------------------------------------------------------------


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
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)
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
