"""NumPy's .npz: named arrays, by split (`test/image`) or unsplit."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import arrays
    from compression.validation import npz

    options = preprocessing.parse(upload.options)
    return arrays.load(npz.unpacked(upload.path, upload.scratch), into, upload.scratch, options)


Format("npz", "dataset", "zip", (".npz", ".zip"), _recognises, _load, title="NumPy .npz").register()
