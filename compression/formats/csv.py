"""CSV with a header; told by its name, as text has no mark of its own."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload, need


def _recognises(head: bytes, suffix: str) -> bool:
    return suffix in {".csv", ".tsv"} and not any(byte in head for byte in b"\x00\x01\x02\x80")


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    need("pyarrow", "tables", "tables")
    from compression import preprocessing
    from compression.intake import table

    options = preprocessing.parse(upload.options)
    return table.load(upload.path, into, upload.scratch, options, table.csv_table)


Format("csv", "dataset", "text", (".csv", ".tsv"), _recognises, _load).register()
