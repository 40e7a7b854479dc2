"""Reconstruction: what a cut network can still tell of the original, it tells."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compression import runtime
from compression.dataset import Split
from compression.graph import channels
from compression.model import Model
from compression.pruning.reconstruction import Activations, Samples, reconstructed, run
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.test_channels import found
from tests.compression.test_cut import drawn

RANDOM = np.random.default_rng(0)
SHAPES = {"encoder_chain": (5, 24), "encoder_operator": (5, 24)}


def samples(network: str) -> Samples:
    rows = RANDOM.standard_normal((128, *SHAPES.get(network, (3, 8, 8)))).astype(np.float32)
    return Samples(Split({"x": rows}, None), 128, 1)


def error(one: onnx.ModelProto, other: onnx.ModelProto, using: Samples) -> float:
    outputs = [
        np.concatenate(
            [part["y"] for part in runtime.run_split(runtime.session(m), using.split, Model(m).inputs)]
        )
        for m in (one, other)
    ]
    return float(
        np.square(outputs[1] - outputs[0]).mean() / np.square(outputs[0] - outputs[0].mean(0)).mean()
    )


@pytest.mark.parametrize("network", ["residual", "dense_block", "gated", "decoder", "flattened", *SHAPES])
def test_outputs_are_nearer_than_those_of_the_bare_cut(network: str) -> None:
    looked, using = found(CHANNEL_NETWORKS[network]()), samples(network)
    kept = drawn(looked, 0.25)
    bare, fitted = channels.cut(looked, kept), reconstructed(looked, kept, using)
    assert error(looked.model, fitted, using) < 0.6 * error(looked.model, bare, using)
    shapes = [{tensor.name: list(tensor.dims) for tensor in m.graph.initializer} for m in (bare, fitted)]
    assert shapes[0] == shapes[1]


def test_what_was_redundant_is_not_missed() -> None:
    """Half of the channels are copies of the others, or dead."""
    looked, using = found(CHANNEL_NETWORKS["residual"]()), samples("residual")
    stored = {tensor.name: tensor for tensor in looked.model.graph.initializer}
    for name in ("conv2.weight", "conv2.bias"):
        values = numpy_helper.to_array(stored[name]).copy()
        values[12:20] = 2 * values[:8]
        values[20:] = 0
        stored[name].CopyFrom(numpy_helper.from_array(values, name))
    kept = {"conv2.weight": list(range(12))}
    assert error(looked.model, reconstructed(looked, kept, using), using) < 1e-4
    assert error(looked.model, channels.cut(looked, kept), using) > 1e-2


def test_the_same_bytes_again_and_the_source_is_untouched() -> None:
    looked, using = found(CHANNEL_NETWORKS["gated"]()), samples("gated")
    before = looked.model.SerializeToString(deterministic=True)
    made = [
        reconstructed(looked, drawn(looked, 0.5), using).SerializeToString(deterministic=True)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert looked.model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("room", [1 << 20, 0])
def test_cuts_of_one_network_share_its_activations(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, using = found(CHANNEL_NETWORKS["residual"]()), samples("residual")
    cuts = [drawn(looked, share) for share in (0.25, 0.5)]
    expected = [reconstructed(looked, kept, using).SerializeToString(deterministic=True) for kept in cuts]
    monkeypatch.setattr("compression.pruning.reconstruction._ROOM", room)
    known = Activations(looked, using)
    made = [reconstructed(looked, kept, using, known).SerializeToString(deterministic=True) for kept in cuts]
    assert made == expected


def test_activations_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, using = found(CHANNEL_NETWORKS["residual"]()), samples("residual")
    known, kept = Activations(looked, using), drawn(looked, 0.5)
    reconstructed(looked, kept, using, known)
    runs: list[onnx.ModelProto] = []

    def counted(model: onnx.ModelProto, *rest: Any) -> Iterator[dict[str, runtime.Array]]:
        runs.append(model)
        return run(model, *rest)

    monkeypatch.setattr("compression.pruning.reconstruction.run", counted)
    reconstructed(looked, kept, using, known)
    assert runs
    assert all(model is not looked.model for model in runs)
