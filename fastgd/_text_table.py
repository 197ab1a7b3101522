"""Tables that are text: CSV and TSV, also compressed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastgd._columns import ColumnError
from fastgd._table import SHOWN_NAMES, Batch, Table
from fastgd._words import quoted

__all__ = ["DELIMITERS", "Text"]

#: Of text, what is read at once, and at least for each column. pyarrow reads up to 32 times as much ahead.
TEXT_BYTES = 1 << 20
TEXT_BYTES_PER_COLUMN = 64
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
#: What pyarrow says of a row or a value, which it counts with the header and without blank lines.
RAGGED = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
#: 1,5 and 1,234 and 10% and € 5 and 1'234.50 and 1 234.
ALMOST_A_NUMBER = re.compile(r"[^\w\s]?\s?[-+]?\d[\d.,' ]*\s?[^\w\s]?")
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
        if any("\udc80" <= letter <= "\udcff" or letter == "\0" for name in record for letter in name):
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
            if ALMOST_A_NUMBER.fullmatch(text):
                hint = " (numbers are written as 1234.5)"
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
