"""Keras files, read by Keras 3 on its torch backend; no TensorFlow."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
from torch import Tensor, nn

from compression.conversion import document, hdf5, keras_config
from compression.conversion.convert import convert
from compression.conversion.failures import converting, failed
from compression.conversion.original import Argument, Original
from compression.errors import CompressionError
from compression.quiet import quiet
from compression.validation import archive

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_CODE = "invalid_keras"


def load_archive(path: Path, into: Path, scratch: Path) -> Mapping[str, Any]:
    """A .keras file. Errors: CompressionError."""
    config, weights = _unpack(path, scratch)
    hdf5.check(weights)
    with converting("reading it in Keras"), quiet():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        model.load_weights(weights)
    return _convert(model, config, into, scratch)


def load_hdf5(path: Path, into: Path, scratch: Path) -> Mapping[str, Any]:
    """A .h5 file of Keras 3 or 2. Errors: CompressionError."""
    hdf5.check(path)
    with hdf5.opened(path) as file:
        text = file.attrs.get("model_config")
    if not isinstance(text, str | bytes):
        raise CompressionError(_CODE, "the file holds no model_config: save the whole model, not its weights")
    config = keras_config.checked(document.parse(text, _CODE, "model_config"))
    copy = scratch / "checked.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:  # what was checked is what Keras reads
        file.attrs["model_config"] = json.dumps(config)
    with converting("reading it in Keras"), quiet():
        model = keras.saving.load_model(copy, compile=False, safe_mode=True)
    copy.unlink()
    return _convert(model, config, into, scratch)


def _unpack(path: Path, scratch: Path) -> tuple[dict[str, Any], Path]:
    weights = scratch / _WEIGHTS
    with archive.open_zip(path) as file:
        infos = {info.filename: info for info in archive.members(file, archive.Budget(path.stat().st_size))}
        if not {_CONFIG, _WEIGHTS} <= set(infos):
            raise CompressionError(_CODE, f"the file holds no {_CONFIG} and {_WEIGHTS}")
        if infos[_CONFIG].file_size > document.MAX_JSON_BYTES:
            raise CompressionError(_CODE, f"{_CONFIG} is too long")
        config = keras_config.checked(document.parse(file.read(_CONFIG), _CODE, _CONFIG))
        with file.open(_WEIGHTS) as source, weights.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return config, weights


class _Inference(nn.Module):
    """Tensors in the order of the model's inputs; dropout off."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.names = [tensor.name for tensor in model.inputs]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        arguments = tensors[0] if len(tensors) == 1 else list(tensors)
        results = self.model(arguments, training=False)
        flat = keras.tree.flatten(results)
        return tuple(flat)


def _convert(model: Any, config: dict[str, Any], into: Path, scratch: Path) -> Mapping[str, Any]:
    if not getattr(model, "inputs", None):
        raise failed("the model has no inputs; call it once before it is saved")
    below = _vocabulary(config)
    arguments = tuple(_argument(tensor, below) for tensor in model.inputs)
    outputs = tuple(getattr(model, "output_names", [model.layers[-1].name]))
    module = _Inference(model).eval()
    version = str(keras.__version__)
    return convert(Original("keras", version, module, arguments, outputs, channels_last=True), into, scratch)


def _argument(tensor: Any, below: int) -> Argument:
    batch, *rest = tensor.shape
    shape = tuple(f"{tensor.name}_{i}" if size is None else size for i, size in enumerate(rest, 1))
    return Argument(tensor.name, tensor.dtype, ("batch" if batch is None else batch, *shape), below)


def _vocabulary(value: Any) -> int:
    """The smallest number of rows of any Embedding: integers below it are good for all."""
    if isinstance(value, list):
        return min((_vocabulary(item) for item in value), default=_LARGE)
    if not isinstance(value, dict):
        return _LARGE
    rows = value.get("input_dim") if "output_dim" in value else None
    own = rows if isinstance(rows, int) and rows > 0 else _LARGE
    return min([own, *(_vocabulary(item) for item in value.values())])


_LARGE = 1 << 8
"""Where nothing bounds integers, those of a byte."""
