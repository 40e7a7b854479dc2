"""The cut: exactly what zeros in the consumers' weights would give."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compression import runtime
from compression.errors import CompressionError
from compression.graph import channels
from compression.model import Model
from compression.samples import random_split
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.conftest import EXAMPLES
from tests.compression.test_channels import found

NETWORKS = {
    **CHANNEL_NETWORKS,
    "example": lambda: onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"),
    "dense": lambda: onnx.load(EXAMPLES / "fashion_mnist_dense.onnx"),
}


def zeroed(looked: channels.Channels, kept: channels.Kept) -> onnx.ModelProto:
    """The whole graph, with zeros where a weight sums over what is not kept."""
    model = onnx.ModelProto()
    model.CopyFrom(looked.model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for group in looked.groups:
        gone = np.setdiff1d(np.arange(group.size), kept[group.name])
        for member in group.contracted:
            values = np.moveaxis(numpy_helper.to_array(stored[member.tensor]).copy(), member.axis, 0)
            values[member.indices[gone].ravel()] = 0
            whole = np.ascontiguousarray(np.moveaxis(values, 0, member.axis))
            stored[member.tensor].CopyFrom(numpy_helper.from_array(whole, member.tensor))
    return model


def drawn(looked: channels.Channels, ratio: float, seed: int = 0) -> dict[str, list[int]]:
    random = np.random.default_rng(seed)
    return {
        group.name: sorted(random.permutation(group.size)[: max(1, round(group.size * (1 - ratio)))].tolist())
        for group in looked.groups
    }


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_consumers_zeroed(network: str, ratio: float) -> None:
    source = NETWORKS[network]()
    looked = found(source)
    kept = drawn(looked, ratio)
    cut = channels.cut(looked, kept)
    onnx.checker.check_model(cut, full_check=True)
    assert Model(cut).outputs == Model(source).outputs
    feeds = random_split(Model(source), 8, 7, np.random.default_rng(1)).arrays
    feeds = {name: values[:3] for name, values in feeds.items()}  # sizes that `find` did not see
    expected = runtime.run(runtime.session(zeroed(looked, kept), optimise=False), feeds)
    for name, values in runtime.run(runtime.session(cut), feeds).items():
        np.testing.assert_allclose(
            values, expected[name], rtol=0, atol=1e-4 * max(1, np.abs(expected[name]).max())
        )


@pytest.mark.parametrize("network", NETWORKS)
def test_costs_are_told_without_the_cut(network: str) -> None:
    looked = found(NETWORKS[network]())
    kept = drawn(looked, 0.5)
    after = Model(channels.cut(looked, kept))
    macs, params = channels.cost(looked, kept)
    assert params == after.inspect().params < channels.cost(looked, {})[1]
    measured = found(after.proto)
    assert (macs, params) == channels.cost(measured, {})
    assert {group.name: group.size for group in measured.groups} == {
        name: len(units) for name, units in kept.items()
    }


def test_what_is_not_named_stays_and_the_source_is_untouched() -> None:
    source = NETWORKS["cnn"]()
    before = source.SerializeToString(deterministic=True)
    looked = found(source)
    assert channels.cost(looked, {}) == channels.cost(looked, {"stem.weight": range(32)})
    channels.cut(looked, drawn(looked, 0.5))
    assert source.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        ({"nobody": [0]}, "unknown_group"),
        ({"stem.weight": [0, 32]}, "unknown_group"),
        ({"stem.weight": []}, "empty_group"),
    ],
)
def test_indices_that_do_not_fit(kept: channels.Kept, code: str) -> None:
    with pytest.raises(CompressionError) as caught:
        channels.cut(found(NETWORKS["cnn"]()), kept)
    assert caught.value.code == code


def test_stored_shapes_that_hold_no_longer_are_dropped() -> None:
    source = onnx.shape_inference.infer_shapes(NETWORKS["gated"]())
    looked = found(source)
    cut = channels.cut(looked, drawn(looked, 0.5))
    names = {value.name for value in cut.graph.value_info}
    assert "value" not in names
    assert len(names) < len(source.graph.value_info)
    onnx.checker.check_model(cut, full_check=True)
