"""Keras files in: real models of each kind, and files that mean harm."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest

from compression.errors import CompressionError
from compression.formats import load_model


def _dense() -> Any:
    return keras.Sequential(
        [
            keras.Input((784,), name="image"),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(10, "softmax"),
        ]
    )


def _convolution() -> Any:
    layers = keras.layers
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(layers.MaxPooling2D()(x))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("build", [_dense, _convolution])
@pytest.mark.filterwarnings("ignore")
def test_a_model_computes_the_same(build: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    build().save(path)
    found = load_model(path, path.name, tmp_path / "model.onnx", tmp_path)
    assert found.format == {"keras": "keras", "h5": "hdf5"}[suffix]
    assert found.inputs[0].shape[0] == "batch"
    assert found.inputs[0].name == "image"
    assert found.conversion is not None
    assert found.conversion.difference < 1e-5
    assert found.conversion.samples == 9


@pytest.mark.filterwarnings("ignore")
def test_convolutions_are_not_kept_apart(tmp_path: Path) -> None:
    """Techniques see through to what follows a convolution; its normalisation is folded into it."""
    layers = keras.layers
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    model.layers[2].set_weights([np.array([*range(at, at + 4)], np.float32) for at in (1, -2, 3, 5)])
    model.save(tmp_path / "model.keras")
    found = load_model(tmp_path / "model.keras", "model.keras", tmp_path / "model.onnx", tmp_path)
    assert found.conversion is not None
    assert found.conversion.difference < 1e-5
    assert not {"Sub", "Mul"} & set(found.operators)
    assert found.operators["Transpose"] == 2  # at the input, and at the mean over height and width


def _operations() -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 4), name="x")
    y = 1 - keras.layers.Dense(4)(x) * 2 + x
    y = keras.ops.softmax(keras.ops.matmul(y, keras.ops.transpose(x, (0, 2, 1))))
    y = keras.ops.concatenate([y, keras.ops.relu(y[:, 1:3])], axis=1) * np.arange(6, dtype=np.float32)
    return keras.Model(x, keras.ops.mean(y, axis=1) > 0.5)


@pytest.mark.filterwarnings("ignore")
def test_operations_between_layers_compute_the_same(tmp_path: Path) -> None:
    _operations().save(tmp_path / "model.keras")
    found = load_model(tmp_path / "model.keras", "model.keras", tmp_path / "model.onnx", tmp_path)
    assert found.conversion is not None
    assert found.conversion.difference == 0  # of true and false
    assert {"MatMul", "Softmax", "Relu", "Slice"} <= set(found.operators)


def _refusal(path: Path, tmp_path: Path) -> str:
    with pytest.raises(CompressionError) as refusal:
        load_model(path, path.name, tmp_path / "model.onnx", tmp_path)
    return refusal.value.code


HOSTILE = [
    {"class_name": "Lambda", "module": "keras.layers", "config": {}},
    {"class_name": "system", "module": "os", "config": "true"},
    {"class_name": "Dense", "module": "os", "config": {}},
    {"class_name": "Dense", "module": "kerasevil.layers", "config": {}},
    {"class_name": "Dense", "module": "keras.layers", "registered_name": "a>b", "config": {}},
    {"class_name": "function", "module": "keras.utils", "config": "get_file"},
    {"class_name": "function", "module": "keras.config", "config": "enable_unsafe_deserialization"},
    {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}},
    {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/x"}},
    {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {}},
    {"class_name": "__lambda__", "config": {"value": ""}},
    {"class_name": "Map", "module": "keras.src.ops.core", "config": {}},
    {"class_name": "Repeat", "module": "keras.src.ops.numpy", "config": {"repeats": 1 << 40}},
    {"class_name": "Add", "module": "keras.src.ops.numpy.evil", "config": {}},
]


@pytest.mark.parametrize("layer", HOSTILE, ids=lambda layer: str(layer["class_name"]))
def test_an_object_that_is_no_known_layer_is_refused(layer: dict[str, Any], tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": [layer]}}
    path = tmp_path / "evil.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"")
    assert _refusal(path, tmp_path) == "layer_refused"


def _external(file: h5py.File) -> None:
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/y")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("x", layout)


def _huge(file: h5py.File) -> None:
    file.create_dataset("x", (1 << 40, 1 << 10), "f4", chunks=(1, 1 << 10))


def _zeros(file: h5py.File) -> None:
    file.create_dataset("x", (1 << 27,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize("make", [_external, _external_link, _soft_link, _virtual])
def test_hdf5_that_leads_elsewhere_is_refused(make: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "evil.h5", "w") as file:
        make(file)
    assert _refusal(tmp_path / "evil.h5", tmp_path) == "h5_link_refused"


@pytest.mark.parametrize("make", [_huge, _zeros])
def test_hdf5_that_claims_more_than_it_holds_is_refused(make: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "evil.h5", "w") as file:
        make(file)
    assert _refusal(tmp_path / "evil.h5", tmp_path) == "limit_decoded_bytes"


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["x"] = np.zeros(4, np.float32)
    assert _refusal(tmp_path / "weights.h5", tmp_path) == "invalid_keras"
