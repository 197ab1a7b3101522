"""Tables in Arrow's own formats and in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgd._table import Batch, Table, rows_at_once, said_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Arrow", "Parquet"]

#: Of each column of a row group, what is read at once; without it, all of the group is.
PARQUET_BYTES = 1 << 18


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
            magic = source.read(6)
            source.seek(0)
            if magic[:4] == b"FEA1":
                raise ValueError("it is in version 1 of Feather: write it anew in version 2")
            if magic != b"ARROW1":
                stream = pa.ipc.open_stream(source)
                yield ((batch, source.tell() / source.size()) for batch in stream), stream.schema
                return
            file = pa.ipc.open_file(source)
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
