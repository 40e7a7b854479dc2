"""JSON lines: one object a row."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, suffix: str) -> bool:
    return head.lstrip().startswith(b"{") and suffix in {".jsonl", ".ndjson"}


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import jsonl, table
    from compression.intake.plan import Given
    from compression.intake.rows import Source

    given = Given(preprocessing.parse(upload.options), upload.scratch)
    return table.load([Source(upload.path, jsonl.jsonl_rows)], into, given)


Format(
    "jsonl",
    "dataset",
    "json",
    (".jsonl", ".ndjson"),
    _recognises,
    _load,
    title="JSON lines",
    packages=("pyarrow",),
    extra="tables",
).register()
