"""Keras: .keras, a zip of a configuration and its weights."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from compression.formats.format import Details, Format, Upload


def _zip(head: bytes, suffix: str) -> bool:
    return head.startswith(b"PK") and suffix in (".keras", ".zip")


def _contains(names: Sequence[str]) -> bool:
    return "config.json" in names and "model.weights.h5" in names


def _load(upload: Upload, into: Path) -> Details:
    _check_installed()
    from compression.conversion import keras_model

    return keras_model.load_archive(upload.path, into, upload.scratch)


def _hdf5(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def _load_hdf5(upload: Upload, into: Path) -> Details:
    _check_installed()
    from compression.conversion import keras_model

    return keras_model.load_hdf5(upload.path, into, upload.scratch)


def _check_installed() -> None:
    if find_spec("keras") is None or find_spec("h5py") is None:
        from compression.conversion.failures import unavailable

        raise unavailable("a Keras model", "keras and h5py", "keras")


Format("keras", "model", "zip", (".keras",), _zip, _load, _contains, narrow=True).register()
Format("hdf5", "model", "hdf5", (".h5", ".hdf5"), _hdf5, _load_hdf5, narrow=True).register()
