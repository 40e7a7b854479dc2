"""Parquet, Arrow, CSV and JSONL -> a table in memory, and its columns -> arrays."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, ipc, json, parquet

from compression.dataset import Array
from compression.errors import CompressionError
from compression.intake import finish, images
from compression.preprocessing import DatasetOptions
from compression.validation import archive
from compression.validation.limits import (
    MAX_COLUMNS,
    MAX_DATASET_RATIO,
    MAX_FOOTER_BYTES,
    MAX_TABLE_BYTES,
)

_BATCH = 4096
_HEAD = 1 << 20
_DEEPEST = 4

Read = Callable[[Path], pa.Table]


def load(path: Path, into: Path, scratch: Path, options: DatasetOptions, read: Read) -> dict[str, Any]:
    """Errors: CompressionError `invalid_dataset`, `limit_decoded_bytes` and those of `images`."""
    try:
        table = read(path)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _invalid(f"it cannot be read: {str(error).replace(str(path), 'the file')[:200]}") from None
    names = table.column_names
    if not table.num_rows or len(set(names)) != len(names):
        raise _invalid("it has no rows, or two columns of one name")
    labels = options.labels or next((name for name in ("label", "labels") if name in names), None)
    split = options.splits if isinstance(options.splits, str) else None
    inputs = options.inputs or {name: name for name in names if name not in {labels, split}}
    decided = None if labels is None else _labels(_column(table, labels), labels)
    found = {name: _column(table, column) for name, column in inputs.items()}
    arrays, told = _inputs(found, inputs, options, scratch)
    classes: tuple[str, ...] = ()
    if decided is not None:
        arrays["label"], classes = decided
    words = _column(table, split).to_pylist() if split else None
    finish.write(arrays, into, options, words, told.pop("rows", None))
    return finish.details(into, options, classes) | told


def parquet_table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        footer = int.from_bytes(file.read(4), "little")
    if footer > min(MAX_FOOTER_BYTES, path.stat().st_size):
        raise _invalid("its footer is damaged or too large")
    with parquet.ParquetFile(path) as file:
        _check_schema(file.schema_arrow)
        _budget(path).check(file.metadata.num_rows * _row_bytes(file.schema_arrow))
        batches = file.iter_batches(_BATCH, use_threads=False)
        return pa.Table.from_batches(_counted(batches, path), file.schema_arrow)


def arrow_table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        if file.read(6) == b"ARROW1":
            file.seek(0)
            reader = ipc.open_file(file)
            _check_schema(reader.schema)
            batches = (reader.get_batch(at) for at in range(reader.num_record_batches))
            return pa.Table.from_batches(_counted(batches, path), reader.schema)
        file.seek(0)
        stream = ipc.open_stream(file)
        _check_schema(stream.schema)
        return pa.Table.from_batches(_counted(stream, path), stream.schema)


def csv_table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline(_HEAD)
    delimiter = max((b",", b";", b"\t", b"|"), key=header.count)
    if header.count(delimiter) >= MAX_COLUMNS:
        raise _invalid(f"it has more than {MAX_COLUMNS} columns")
    convert = csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA", "null", "NULL", "None"])
    parse = csv.ParseOptions(delimiter=delimiter.decode())
    reader = csv.open_csv(path, csv.ReadOptions(use_threads=False), parse, convert)
    return pa.Table.from_batches(_counted(reader, path), reader.schema)


def jsonl_table(path: Path) -> pa.Table:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise CompressionError("limit_decoded_bytes", f"a table takes at most {MAX_TABLE_BYTES} bytes")
    table = json.read_json(path, json.ReadOptions(use_threads=False, block_size=16 << 20))
    _check_schema(table.schema)
    return table


def _budget(path: Path) -> archive.Budget:
    stored = os.stat(path).st_size  # noqa: PTH116  one call
    return archive.Budget(stored, MAX_TABLE_BYTES, MAX_DATASET_RATIO, "limit_decoded_bytes")


def _counted(batches: Any, path: Path) -> Iterator[pa.RecordBatch]:
    """Checks each batch: offsets of a stranger may point anywhere."""
    budget, total = _budget(path), 0
    for batch in batches:
        batch.validate(full=True)
        total += batch.nbytes
        budget.check(total)
        yield batch


def _check_schema(schema: pa.Schema) -> None:
    if len(schema) > MAX_COLUMNS:
        raise _invalid(f"it has more than {MAX_COLUMNS} columns")
    for field in schema:
        kind, depth = field.type, 0
        while _is_list(kind) and depth <= _DEEPEST:
            kind, depth = kind.value_type, depth + 1
        if depth > _DEEPEST or pa.types.is_map(kind) or pa.types.is_union(kind):
            raise _invalid(f"column {field.name[:80]!r} is nested more than {_DEEPEST} deep, or a map")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _row_bytes(schema: pa.Schema) -> int:
    return sum(field.type.bit_width // 8 for field in schema if pa.types.is_primitive(field.type))


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        shown = ", ".join(repr(known[:40]) for known in table.column_names[:8])
        raise _invalid(f"there is no column {name[:80]!r}; there are {shown}")
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = pc.index(column.is_null(), value=True).as_py()
        raise _at(row, name, "the value is missing")
    return column


def _inputs(
    found: dict[str, pa.ChunkedArray], columns: dict[str, str], options: DatasetOptions, scratch: Path
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays; of a column of encoded images too the rows that hold one, and which were skipped."""
    arrays: dict[str, Array] = {}
    told: dict[str, Any] = {}
    for name, column in found.items():
        if not _encoded(column.type):
            arrays[name] = _numbers(column, columns[name])
            continue
        if told:
            raise _invalid("more than one column holds images; name one in inputs")
        cells = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        rows = [f"row {row + 1}" for row in range(len(cells))]
        decoded = images.decode_all(_reader(cells), rows, options, scratch / "images")
        arrays[name] = decoded.array
        told = {"rows": decoded.rows, "skipped": decoded.skipped}
    return arrays, told


def _reader(cells: pa.ChunkedArray) -> Callable[[int], bytes]:
    return lambda row: cells[row].as_py() or b""


def _encoded(kind: pa.DataType) -> bool:
    """Bytes, or the struct of bytes and path that `datasets` writes."""
    if pa.types.is_struct(kind):
        return any(kind[at].name == "bytes" for at in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _numbers(column: pa.ChunkedArray, name: str) -> Array:
    shape, values = [len(column)], column.combine_chunks()
    while _is_list(values.type):
        lengths = pc.list_value_length(values)
        odd = pc.index(pc.not_equal(lengths, lengths[0]), value=True).as_py()
        if odd >= 0:
            raise _at(odd // max(1, int(np.prod(shape[1:]))), name, "its list is not as long as the first")
        shape.append(lengths[0].as_py())
        values = values.flatten()
    if values.null_count:
        inner = max(1, int(np.prod(shape[1:])))
        raise _at(pc.index(values.is_null(), value=True).as_py() // inner, name, "a value is missing")
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or _is_bool(values.type)):
        raise _invalid(f"column {name[:80]!r} is {str(values.type)[:40]}; inputs are numbers or images")
    if 0 in shape:
        raise _at(0, name, "its list is empty")
    array: Array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return array


def _is_bool(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind))


def _labels(column: pa.ChunkedArray, name: str) -> tuple[Array, tuple[str, ...]]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return finish.encode(column.to_pylist())
    labels = _numbers(column, name)
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise _at(int(np.argmin(labels.reshape(len(labels), -1).min(axis=1))), name, "the label is below 0")
    return labels, ()


def _at(row: int, column: str, why: str) -> CompressionError:
    return _invalid(f"row {row + 1}, column {column[:80]!r}: {why}")


def _invalid(why: str) -> CompressionError:
    return CompressionError("invalid_dataset", why)
