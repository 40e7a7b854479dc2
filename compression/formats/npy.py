"""NumPy's .npy: one array, an input without labels."""

from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x93NUMPY")


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import arrays
    from compression.validation import npz

    options = preprocessing.parse(upload.options)
    return arrays.load(arrays.one(npz.opened(upload.path), options), into, upload.scratch, options)


Format("npy", "dataset", "npy", (".npy",), _recognises, _load, title="NumPy .npy").register()
