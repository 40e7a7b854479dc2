"""Keras: .keras, a zip of a configuration and its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compression.formats.format import Details, Format, Upload


def _zip(head: bytes, suffix: str) -> bool:
    return head.startswith(b"PK") and suffix in (".keras", ".zip")


def _contains(names: Sequence[str]) -> bool:
    return "config.json" in names and "model.weights.h5" in names


def _load(upload: Upload, into: Path) -> Details:
    from compression.conversion import keras_model

    return keras_model.load_archive(upload.path, into, upload.scratch)


def _hdf5(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def _load_hdf5(upload: Upload, into: Path) -> Details:
    from compression.conversion import keras_model

    return keras_model.load_hdf5(upload.path, into, upload.scratch)


_NEEDS: dict[str, Any] = {
    "title": "Keras 3 and 2",
    "packages": ("keras", "h5py", "torch", "onnxscript"),
    "extra": "keras",
}
Format(
    "keras", "model", "zip", (".keras",), _zip, _load, contains=_contains, narrow=True, **_NEEDS
).register()
Format("hdf5", "model", "hdf5", (".h5", ".hdf5"), _hdf5, _load_hdf5, narrow=True, **_NEEDS).register()
