"""Parquet: columns of numbers, lists of one length, or encoded images."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"PAR1")


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import rows, table
    from compression.intake.plan import Given

    given = Given(preprocessing.parse(upload.options), upload.scratch)
    return table.load([rows.Source(upload.path, rows.parquet_rows)], into, given)


Format(
    "parquet",
    "dataset",
    "parquet",
    (".parquet",),
    _recognises,
    _load,
    title="Parquet",
    packages=("pyarrow",),
    extra="tables",
).register()
