"""JSON lines: one object a row."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compression.errors import CompressionError, ErrorKind
from compression.formats.format import Format, Upload


def _recognises(head: bytes, suffix: str) -> bool:
    return head.lstrip().startswith(b"{") and suffix in {".jsonl", ".ndjson"}


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    if find_spec("pyarrow") is None:
        detail = "tables are read with pyarrow, which this worker lacks: install pare-server[tables] there"
        raise CompressionError("format_unavailable", detail, ErrorKind.RESOURCE)
    from compression import preprocessing
    from compression.intake import table

    options = preprocessing.parse(upload.options)
    return table.load(upload.path, into, upload.scratch, options, table.jsonl_table)


Format("jsonl", "dataset", "json", (".jsonl", ".ndjson"), _recognises, _load).register()
