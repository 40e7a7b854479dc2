"""JSON lines as record batches, by Python's own reader, which tells the row where something is wrong.

The first row names the columns: later rows of a stranger cannot make ever more of them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from compression.intake.cells import at, invalid
from compression.validation.limits import MAX_COLUMNS, MAX_LINE_BYTES

_MOST_ROWS = 4096
_BLOCK = 8 << 20


def jsonl_rows(path: Path) -> Iterator[pa.RecordBatch]:
    """Errors: CompressionError `invalid_dataset`."""
    names: list[str] = []
    start = 0
    for lines in _blocks(path):
        rows = [_row(line, start + offset) for offset, line in enumerate(lines)]
        names = names or list(rows[0])
        if len(names) > MAX_COLUMNS:
            raise invalid(f"it has more than {MAX_COLUMNS} columns")
        columns = [_column([row.get(name) for row in rows], name, start) for name in names]
        yield pa.RecordBatch.from_arrays(columns, names)
        start += len(rows)


def _blocks(path: Path) -> Iterator[list[bytes]]:
    with path.open("rb") as file:
        file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
        block: list[bytes] = []
        size = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise invalid(f"a row takes more than {MAX_LINE_BYTES} bytes")
            if line.strip():
                block.append(line)
                size += len(line)
            if len(block) == _MOST_ROWS or size >= _BLOCK:
                yield block
                block, size = [], 0
    if block:
        yield block


def _row(line: bytes, row: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise invalid(f"row {row + 1} is no JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise invalid(f"row {row + 1} is no JSON object")
    return value


def _column(values: Sequence[Any], name: str, start: int) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError, RecursionError):
        odd = next((row for row, value in enumerate(values) if _kind(value) != _kind(values[0])), 0)
        raise at(start + odd, name, "the value is of another kind than the first, or too large") from None


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)
