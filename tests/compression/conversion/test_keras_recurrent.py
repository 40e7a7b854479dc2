"""Recurrent Keras models compute the same as ONNX operators, whatever their masks, directions and states."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest

from compression import runtime
from compression.errors import CompressionError
from compression.formats import load_model
from tests.compression import hostile

layers = keras.layers
SERIES = (None, 5)
pytestmark = pytest.mark.filterwarnings("ignore")


def _sequential(*rest: Any, shape: tuple[int | None, ...] = SERIES) -> Any:
    return keras.Sequential([keras.Input(shape, name="x"), *rest])


def _activations() -> Any:
    return _sequential(
        layers.LSTM(4, "softsign", "hard_sigmoid", return_sequences=True),
        layers.GRU(3, "elu", bias_initializer="random_normal", return_sequences=True),
        layers.GRU(3, "softplus", reset_after=False, bias_initializer="random_normal", return_sequences=True),
        layers.SimpleRNN(3, "relu", use_bias=False, return_sequences=True),
        layers.SimpleRNN(3, "linear"),
    )


def _both_ways() -> Any:
    return _sequential(
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.GRU(4, return_sequences=True, go_backwards=True),
        layers.Bidirectional(layers.GRU(3), merge_mode="sum"),
    )


def _frames() -> Any:
    return _sequential(
        layers.TimeDistributed(layers.Conv2D(2, 3)),
        layers.TimeDistributed(layers.Flatten()),
        layers.LSTM(4, unroll=True, dropout=0.3),
        shape=(3, 5, 5, 1),
    )


def _states() -> Any:
    encoded, decoded = keras.Input(SERIES, name="encoded"), keras.Input((None, 3), name="decoded")
    _, *states = layers.LSTM(4, return_state=True)(encoded)
    y = layers.LSTM(4, return_sequences=True)(decoded, initial_state=states)
    return keras.Model([encoded, decoded], layers.TimeDistributed(layers.Dense(2, "softmax"))(y))


def _embedded(*rest: Any) -> Any:
    y = ids = keras.Input((None,), dtype="int32", name="ids")
    for layer in (layers.Embedding(3, 6, mask_zero=True), *rest):
        y = layer(y)
    return keras.Model(ids, y)


def _masked() -> Any:
    return _embedded(
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.GRU(4, return_sequences=True, go_backwards=True),
        layers.LSTM(3),
    )


def _zeroed() -> Any:
    both = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True, zero_output_for_mask=True))
    return _embedded(both, layers.TimeDistributed(layers.Dense(2)))


CASES: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "activations": (_activations, {"LSTM": 1, "GRU": 2, "RNN": 2}),
    "both ways": (_both_ways, {"LSTM": 2, "GRU": 3}),
    "frames": (_frames, {"LSTM": 1}),
    "states": (_states, {"LSTM": 2}),
    "masked": (_masked, {"LSTM": 3, "GRU": 1}),
    "zeroed": (_zeroed, {"RNN": 2}),
}


def _loaded(model: Any, folder: Path, suffix: str = "keras") -> Any:
    model.save(folder / f"model.{suffix}")
    return load_model(folder / f"model.{suffix}", f"model.{suffix}", folder / "model.onnx", folder)


@pytest.mark.parametrize("name", CASES)
def test_the_operators_compute_what_keras_does(name: str, tmp_path: Path) -> None:
    build, operators = CASES[name]
    found = _loaded(build(), tmp_path)
    assert found.conversion.difference < 1e-5
    assert {kind: found.operators[kind] for kind in operators} == operators
    assert "Loop" not in found.operators


PADDED = np.array([[0, 0, 0, 0], [0, 0, 1, 2], [2, 1, 0, 0], [0, 2, 0, 1]], np.int32)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_padding_on_either_side_and_within_is_passed_over(suffix: str, tmp_path: Path) -> None:
    """Row 0 is all padding: the state stays what was given."""
    ids, state = keras.Input((None,), dtype="int32", name="ids"), keras.Input((4,), name="state")
    y = layers.Embedding(3, 6, mask_zero=True)(ids)
    model = keras.Model([ids, state], layers.GRU(4, return_state=True)(y, initial_state=state))
    found = _loaded(model, tmp_path, suffix)
    assert len({output.name for output in found.outputs}) == 2
    feeds = {"ids": PADDED, "state": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)}
    have = runtime.run(runtime.session(tmp_path / "model.onnx"), feeds)
    for own, keras_own in zip(have.values(), model.predict_on_batch(list(feeds.values())), strict=True):
        np.testing.assert_allclose(own, keras_own, atol=1e-6)


def _refusal(model: Any, folder: Path) -> CompressionError:
    with pytest.raises(CompressionError) as refusal:
        _loaded(model, folder)
    return refusal.value


REFUSED = {
    "'GRU': with the activation 'selu'": lambda: _sequential(layers.GRU(2, "selu")),
    "'ConvLSTM1D': not among": lambda: _sequential(layers.ConvLSTM1D(2, 3), shape=(4, 5, 1)),
    "'RNN': not among": lambda: _sequential(layers.RNN(layers.LSTMCell(2))),
    "'lasting': it keeps its state": lambda: keras.Sequential(
        [keras.Input(batch_shape=(2, 3, 4)), layers.LSTM(2, stateful=True, name="lasting")]
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_others_are_refused_by_name(why: str, tmp_path: Path) -> None:
    error = _refusal(REFUSED[why](), tmp_path)
    assert error.code == "layer_refused"
    assert error.detail.startswith(why)
    assert error.suggestions


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_an_activation_that_meant_something_else_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    _sequential(layers.GRU(2, recurrent_activation="hard_sigmoid")).save(path)
    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            file.attrs["keras_version"] = "2.2.4"
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["metadata.json"] = json.dumps({"keras_version": "2.15.0"}).encode()
        path.write_bytes(hostile.packed(members))
    with pytest.raises(CompressionError, match="layer_refused: 'hard_sigmoid'"):
        load_model(path, path.name, tmp_path / "model.onnx", tmp_path)


BOMBS: dict[str, Callable[[], Any]] = {
    "Dense": lambda: _sequential(layers.Dense(7), shape=(5,)),
    "LSTM": lambda: _sequential(layers.LSTM(7)),
    "Embedding": lambda: _sequential(layers.Embedding(3, 7), shape=(5,)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_more_weights_than_the_file_holds_are_not_allocated(name: str, tmp_path: Path) -> None:
    BOMBS[name]().save(tmp_path / "small.keras")
    key = "output_dim" if name == "Embedding" else "units"
    with zipfile.ZipFile(tmp_path / "small.keras") as small, zipfile.ZipFile(tmp_path / "bomb", "w") as bomb:
        config = small.read("config.json").decode()
        large = config.replace(f'"{key}": 7', f'"{key}": 1000000')
        assert json.loads(large) != json.loads(config)
        bomb.writestr("config.json", large)
        bomb.writestr("model.weights.h5", small.read("model.weights.h5"))
    with pytest.raises(CompressionError, match=r"invalid_keras: .* asks for \d{7,} weights, the file holds"):
        load_model(tmp_path / "bomb", "bomb.keras", tmp_path / "model.onnx", tmp_path)
