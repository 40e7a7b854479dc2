"""NumPy's .npz: named arrays, by split (`test/image`) or unsplit."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression.intake import finish
    from compression.validation import npz

    npz.normalise(upload.path, into, upload.scratch)
    return finish.details(into, None)


Format("npz", "dataset", "zip", (".npz", ".zip"), _recognises, _load, title="NumPy .npz").register()
