"""Reconstruction: what a cut network can still tell of the original, it tells."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compression import runtime
from compression.dataset import Split
from compression.graph import channels
from compression.model import Model
from compression.pruning.reconstruction import Samples, reconstructed
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
