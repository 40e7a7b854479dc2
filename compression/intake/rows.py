"""Parquet, Arrow and CSV as streams of record batches: a table is never held as a whole."""

import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import csv, ipc, parquet

from compression.fit import LABELS
from compression.intake.cells import invalid, is_list, typed
from compression.preprocessing import DatasetOptions
from compression.validation import archive
from compression.validation.limits import (
    MAX_COLUMNS,
    MAX_DATASET_BYTES,
    MAX_DATASET_RATIO,
    MAX_FOOTER_BYTES,
)

_MOST_ROWS = 4096
_PIECE = 16 << 20
_BLOCK = 1 << 20
"""Of a CSV file, with the longest row in it; its reader runs some thirty blocks ahead."""
_HEAD = 1 << 20
_DEEPEST = 4
_STREAM = 1 << 20
"""Of a column, read at once; by default it is a whole file."""

Read = Callable[[Path], Iterable[pa.RecordBatch]]


class Source(NamedTuple):
    """A table, and the split that all its rows belong to where its place in an archive tells."""

    path: Path
    read: Read
    split: str | None = None
    name: str = ""
    """Of one among several."""


def pieces(source: Source) -> Iterator[pa.RecordBatch]:
    """A few rows at a time, each batch checked: offsets of a stranger may point anywhere.

    Errors: CompressionError `invalid_dataset`, `limit_decoded_bytes`.
    """
    stored = source.path.stat().st_size
    budget = archive.Budget(stored, MAX_DATASET_BYTES, MAX_DATASET_RATIO, "limit_decoded_bytes")
    total = 0
    try:
        for batch in source.read(source.path):
            batch.validate(full=True)  # before anything else: even its size follows offsets
            total += batch.nbytes
            budget.check(total)
            yield from _cut(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise invalid(
            f"it cannot be read: {str(error).replace(str(source.path), 'the file')[:200]}"
        ) from None


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(_MOST_ROWS, _PIECE * batch.num_rows // max(1, batch.nbytes)))
    return (batch.slice(at, rows) for at in range(0, batch.num_rows, rows))


def parquet_rows(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        footer = int.from_bytes(file.read(4), "little")
    if footer > min(MAX_FOOTER_BYTES, path.stat().st_size):
        raise invalid("its footer is damaged or too large")
    with parquet.ParquetFile(path) as plain:
        check_schema(plain.schema_arrow)
        rows, bits = plain.metadata.num_rows, sum(map(_bits, plain.schema_arrow.types))
        stored = path.stat().st_size
        archive.Budget(stored, MAX_DATASET_BYTES, MAX_DATASET_RATIO, "limit_decoded_bytes").check(
            rows * bits // 8
        )
        texts = _texts(plain)
    streamed = {"pre_buffer": False, "buffer_size": _STREAM}
    with parquet.ParquetFile(path, read_dictionary=texts, **streamed) as file:
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        yield from file.iter_batches(
            max(1, min(_MOST_ROWS, _PIECE * rows // max(1, size))), use_threads=False
        )


def _texts(file: parquet.ParquetFile) -> list[str]:
    """Columns of text and bytes stay as the dictionaries that they are stored as: a small file may repeat a
    long value without end.
    """
    columns = (file.schema.column(at) for at in range(len(file.schema)))
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level == 0
    ]


def _bits(kind: pa.DataType) -> int:
    return kind.bit_width if pa.types.is_primitive(kind) else 0


def arrow_rows(path: Path) -> Iterator[pa.RecordBatch]:
    """Mapped, so that a batch without compression takes no memory."""
    with pa.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            reader = ipc.open_file(file)
            check_schema(reader.schema)
            yield from (reader.get_batch(at) for at in range(reader.num_record_batches))
            return
        file.seek(0)
        stream = ipc.open_stream(file)
        check_schema(stream.schema)
        yield from stream


def csv_reader(options: DatasetOptions) -> Read:
    """Transcriptions stay as they are written: 007 is no number."""
    labels = frozenset({options.labels} if options.labels else LABELS)
    return partial(csv_rows, verbatim=labels if options.transcriptions else frozenset())


def csv_rows(path: Path, verbatim: Container[str] = ()) -> Iterator[pa.RecordBatch]:
    """With a header. Values stay text until a whole column of a batch is numbers: so an error can be named by
    row. Those of `verbatim` stay text for ever.
    """
    with path.open("rb") as file:
        header = file.readline(_HEAD)
    bare = re.sub(rb'"[^"]*"', b"", header)
    delimiter = max((b",", b";", b"\t", b"|"), key=bare.count)
    if bare.count(delimiter) >= MAX_COLUMNS or len(header) == _HEAD:
        raise invalid(f"it has more than {MAX_COLUMNS} columns")
    parse = csv.ParseOptions(delimiter=delimiter.decode(), newlines_in_values=True)
    options = csv.ReadOptions(use_threads=False, block_size=_BLOCK)
    text = csv.ConvertOptions(column_types={name: pa.string() for name in _header(path, parse)})
    for batch in csv.open_csv(path, options, parse, text):
        named = zip(batch.schema.names, batch.columns, strict=True)
        columns = [column if name in verbatim else typed(column) for name, column in named]
        yield pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _header(path: Path, parse: csv.ParseOptions) -> list[str]:
    with csv.open_csv(path, csv.ReadOptions(use_threads=False, block_size=_BLOCK), parse) as reader:
        check_schema(reader.schema)
        return list(reader.schema.names)


def check_schema(schema: pa.Schema) -> None:
    """Errors: CompressionError `invalid_dataset`."""
    if len(schema) > MAX_COLUMNS:
        raise invalid(f"it has more than {MAX_COLUMNS} columns")
    if len(set(schema.names)) != len(schema):
        raise invalid("two columns have the same name")
    for field in schema:
        kind, depth = field.type, 0
        while is_list(kind) and depth <= _DEEPEST:
            kind, depth = kind.value_type, depth + 1
        if depth > _DEEPEST or pa.types.is_map(kind) or pa.types.is_union(kind):
            raise invalid(f"column {field.name[:80]!r} is nested more than {_DEEPEST} deep, or a map")
