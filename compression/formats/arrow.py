"""Arrow's IPC file or stream."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith((b"ARROW1", b"\xff\xff\xff\xff"))


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import rows, table
    from compression.intake.plan import Given

    given = Given(preprocessing.parse(upload.options), upload.scratch)
    return table.load([rows.Source(upload.path, rows.arrow_rows)], into, given)


Format(
    "arrow",
    "dataset",
    "arrow",
    (".arrow", ".feather", ".ipc"),
    _recognises,
    _load,
    title="Arrow IPC",
    packages=("pyarrow",),
    extra="tables",
).register()
