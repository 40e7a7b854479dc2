"""Parquet: columns of numbers, lists of one length, or encoded images."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload, need


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"PAR1")


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    need("pyarrow", "tables", "tables")
    from compression import preprocessing
    from compression.intake import table

    options = preprocessing.parse(upload.options)
    return table.load(upload.path, into, upload.scratch, options, table.parquet_table)


Format("parquet", "dataset", "parquet", (".parquet",), _recognises, _load).register()
