"""JSON lines: one object a row."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload, need


def _recognises(head: bytes, suffix: str) -> bool:
    return head.lstrip().startswith(b"{") and suffix in {".jsonl", ".ndjson"}


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    need("pyarrow", "tables", "tables")
    from compression import preprocessing
    from compression.intake import table

    options = preprocessing.parse(upload.options)
    return table.load(upload.path, into, upload.scratch, options, table.jsonl_table)


Format("jsonl", "dataset", "json", (".jsonl", ".ndjson"), _recognises, _load).register()
