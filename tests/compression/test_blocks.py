"""Residual blocks: found, and dropped."""

import numpy as np
import onnx
import pytest
from onnx import helper

from compression import runtime
from compression.graph import blocks
from compression.graph.channels import find
from compression.model import Model
from compression.samples import random_split
from tests.compression.channel_networks import CHANNEL_NETWORKS, Net
from tests.compression.conftest import EXAMPLES
from tests.compression.networks import F
from tests.compression.test_channels import found


def blocks_of(model: onnx.ModelProto) -> tuple[blocks.Block, ...]:
    looked = found(model)
    return blocks.find(looked.model.graph, looked.shapes)


def test_blocks_of_a_residual_network_are_those_without_a_projection() -> None:
    names = [block.name for block in blocks_of(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))]
    assert names == ["add_40", "add_76", "add_158", "add_240"]


def test_sublayers_of_an_encoder() -> None:
    attention, wide = blocks_of(CHANNEL_NETWORKS["encoder_packed"]())
    assert attention.skip == "x"
    assert "linear0.mul" in attention.inner
    assert "linear17.mul" in wide.inner


def test_networks_without_a_skip_have_none() -> None:
    assert blocks_of(CHANNEL_NETWORKS["gated"]()) == ()
    assert blocks_of(CHANNEL_NETWORKS["dense_block"]()) == ()


def nested() -> onnx.ModelProto:
    """x + f(x + g(x)), whose inner sum is read by a subgraph too."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 6))
    inner = b.node("Add", [b.conv(x, 6, 6), x], "inner")
    other, same = (
        helper.make_graph(
            [helper.make_node(kind, [inner], [kind])],
            kind,
            [],
            [helper.make_tensor_value_info(kind, F, None)],
        )
        for kind in ("Neg", "Abs")
    )
    chosen = b.op("If", b.constant("condition", np.array(True)), then_branch=other, else_branch=same)
    b.node("Add", [x, b.conv(chosen, 6, 6)], "outer")
    b.classes("outer", 6)
    return b.done()


@pytest.mark.parametrize(("name", "left"), [("inner", 2), ("outer", 1)])
def test_dropping(name: str, left: int) -> None:
    source = nested()
    before = source.SerializeToString(deterministic=True)
    inner, outer = blocks_of(source)
    assert (inner.name, outer.name) == ("inner", "outer")
    dropped = blocks.drop(source, {"inner": inner, "outer": outer}[name])
    onnx.checker.check_model(dropped, full_check=True)
    assert source.SerializeToString(deterministic=True) == before
    assert sum(node.op_type == "Conv" for node in dropped.graph.node) == left
    assert sum(tensor.name.startswith("conv") for tensor in dropped.graph.initializer) == 2 * left
    feeds = random_split(Model(source), 8, 8, np.random.default_rng(0)).arrays
    feeds = {"x": feeds["x"][:2]}
    zeroed = onnx.ModelProto.FromString(before)
    silent = {"inner": "conv2", "outer": "conv5"}[name]
    for tensor in zeroed.graph.initializer:
        if tensor.name.startswith(silent):
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), tensor.name))
    expected, given = (runtime.run(runtime.session(model), feeds)["y"] for model in (zeroed, dropped))
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_dropped_model_can_be_cut() -> None:
    source = onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx")
    dropped = blocks.drop(source, blocks_of(source)[0])
    looked = found(dropped)
    assert len(looked.groups) == 8
    assert find(dropped, {"image": np.zeros((1, 1, 28, 28), np.float32)}).shapes["relu"] == (1, 32, 28, 28)


def test_an_activation_that_would_follow_itself_goes() -> None:
    """Not a Clip to other bounds, and not one that is an output."""
    source = CHANNEL_NETWORKS["residual"]()
    before = sum(node.op_type == "Relu" for node in source.graph.node)
    block = blocks_of(source)[0]
    dropped = blocks.drop(source, block)
    # of the block's own and of the one behind it
    assert sum(node.op_type == "Relu" for node in dropped.graph.node) == before - 2
    onnx.checker.check_model(dropped, full_check=True)
    for clip, left in (((0.0, 6.0), 1), ((0.0, 5.0), 2)):
        b = Net()
        x = b.op(
            "Clip", b.conv("x", 3, 6), b.constant("low", np.float32(0)), b.constant("six", np.float32(6))
        )
        added = b.node("Add", [b.conv(x, 6, 6), x], "added")
        bounds = ["low", "six" if clip[1] == 6 else b.constant("five", np.float32(5))]
        b.classes(b.op("Clip", added, *bounds), 6)
        model = b.done()
        dropped = blocks.drop(model, blocks_of(model)[0])
        assert sum(node.op_type == "Clip" for node in dropped.graph.node) == left
