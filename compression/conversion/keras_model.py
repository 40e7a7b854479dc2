"""Keras files, read by Keras 3 on its torch backend; no TensorFlow."""

import copy
import json
import math
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
from keras.src.ops import numpy
from torch import Tensor, nn

from compression.conversion import document, hdf5, keras_config, keras_recurrent
from compression.conversion.convert import convert
from compression.conversion.failures import converting, failed
from compression.conversion.keras_names import LAYERS, OPERATIONS
from compression.conversion.original import Argument, Original
from compression.errors import CompressionError, Suggestion
from compression.quiet import quiet
from compression.validation import archive

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_CODE = "invalid_keras"


def load_archive(path: Path, into: Path, scratch: Path) -> Mapping[str, Any]:
    """A .keras file. Errors: CompressionError."""
    config, weights = _unpack(path, scratch)
    numbers = hdf5.check(weights)
    with converting("reading it in Keras"), quiet():
        with keras.device("meta"):
            _check_weights(
                keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True), numbers
            )
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        model.load_weights(weights)
    return _convert(model, into, scratch)


def load_hdf5(path: Path, into: Path, scratch: Path) -> Mapping[str, Any]:
    """A .h5 file of Keras 3 or 2. Errors: CompressionError."""
    numbers = hdf5.check(path)
    with hdf5.opened(path) as file:
        text, version = (file.attrs.get(name) for name in ("model_config", "keras_version"))
    if not isinstance(text, str | bytes):
        raise CompressionError(_CODE, "the file holds no model_config: save the whole model, not its weights")
    config = keras_config.checked(document.parse(text, _CODE, "model_config"), _text(version))
    checked = scratch / "checked.h5"
    shutil.copyfile(path, checked)
    with h5py.File(checked, "r+") as file:  # what was checked is what Keras reads
        file.attrs["model_config"] = json.dumps(config)
    with converting("reading it in Keras"), quiet():
        with keras.device("meta"):
            _check_weights(_read(checked), numbers)
        model = _read(checked)
    checked.unlink()
    return _convert(model, into, scratch)


def _read(path: Path) -> Any:
    """Keras does not find in a .h5 the operations that it wrote there, for masks say."""
    names = OPERATIONS[numpy.__name__] - LAYERS
    operations = {name: getattr(numpy, name) for name in names}
    return keras.saving.load_model(path, operations, compile=False, safe_mode=True)


def _check_weights(model: Any, stored: int) -> None:
    """Of a model built without memory for them: a short configuration may ask for any number.

    Errors: CompressionError `invalid_keras`.
    """
    wanted = sum(math.prod(weight.shape) for weight in model.weights)
    if wanted > stored:
        raise CompressionError(
            _CODE,
            f"the configuration asks for {wanted} weights, the file holds {stored} numbers",
            suggestions=(Suggestion("save the whole model once more, with model.save('model.keras')"),),
        )


def _unpack(path: Path, scratch: Path) -> tuple[dict[str, Any], Path]:
    weights = scratch / _WEIGHTS
    with archive.open_zip(path) as file:
        infos = {info.filename: info for info in archive.members(file, archive.Budget(path.stat().st_size))}
        if not {_CONFIG, _WEIGHTS} <= set(infos):
            raise CompressionError(_CODE, f"the file holds no {_CONFIG} and {_WEIGHTS}")
        if infos[_CONFIG].file_size > document.MAX_JSON_BYTES:
            raise CompressionError(_CODE, f"{_CONFIG} is too long")
        version = _version(file, infos)
        config = keras_config.checked(document.parse(file.read(_CONFIG), _CODE, _CONFIG), version)
        with file.open(_WEIGHTS) as source, weights.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return config, weights


def _version(file: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]) -> str:
    """Of the Keras that wrote it; empty where it does not say."""
    found = infos.get(_METADATA)
    if found is None or found.file_size > document.MAX_JSON_BYTES:
        return ""
    return _text(document.parse(file.read(found), _CODE, _METADATA).get("keras_version"))


def _text(value: Any) -> str:
    """h5py gives the text of old files as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


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


def _convert(model: Any, into: Path, scratch: Path) -> Mapping[str, Any]:
    if not getattr(model, "inputs", None):
        raise failed("the model has no inputs; call it once before it is saved")
    keras_recurrent.prepare(model)
    below = _vocabulary(model)
    arguments = tuple(_argument(tensor, below) for tensor in model.inputs)
    module = _Inference(model).eval()
    version = str(keras.__version__)
    outputs = _outputs(model)
    return convert(Original("keras", version, module, arguments, outputs, channels_last=True), into, scratch)


def _outputs(model: Any) -> tuple[str, ...]:
    """A layer's name, numbered where it gives several."""
    names = list(getattr(model, "output_names", [model.layers[-1].name]))
    earlier = [names[:at].count(name) for at, name in enumerate(names)]
    return tuple(f"{name}_{at}" if at else name for name, at in zip(names, earlier, strict=True))


def _argument(tensor: Any, below: int) -> Argument:
    batch, *rest = tensor.shape
    shape = tuple(f"{tensor.name}_{i}" if size is None else size for i, size in enumerate(rest, 1))
    return Argument(tensor.name, tensor.dtype, ("batch" if batch is None else batch, *shape), below)


def _vocabulary(model: Any) -> int:
    """The smallest number of rows of any Embedding: integers below it are good for all."""
    layers = model._flatten_layers()  # noqa: SLF001  those within others, too
    return min((one.input_dim for one in layers if isinstance(one, keras.layers.Embedding)), default=_LARGE)


_LARGE = 1 << 8
"""Where nothing bounds integers, those of a byte."""
