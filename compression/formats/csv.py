"""CSV with a header; told by its name, as text has no mark of its own."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, suffix: str) -> bool:
    binary = head.startswith(b"\x80") or any(byte in head for byte in b"\x00\x01\x02")
    return suffix in {".csv", ".tsv"} and not binary


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import rows, table
    from compression.intake.plan import Given

    options = preprocessing.parse(upload.options)
    source = rows.Source(upload.path, rows.csv_reader(options))
    return table.load([source], into, Given(options, upload.scratch))


Format(
    "csv",
    "dataset",
    "text",
    (".csv", ".tsv"),
    _recognises,
    _load,
    title="CSV with a header",
    packages=("pyarrow",),
    extra="tables",
).register()
