"""Weights and the axes they sum over, told from the graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.graph.layers import Axes, Layers
from tests.compression.networks import Builder, cnn, lstm, transformer

F, I64 = TensorProto.FLOAT, TensorProto.INT64
value = helper.make_tensor_value_info


def network(b: Builder, source: list[int | str], result: str = "y") -> Layers:
    inputs = [value("x", F, source)]
    return Layers(b.model(inputs, [value(result, F, None)]).graph)


@pytest.mark.parametrize(
    ("kind", "inputs", "shape", "attributes", "axes"),
    [
        ("Conv", ["x", "w"], (8, 4, 3, 3), {}, Axes(0, 1)),
        ("Conv", ["x", "w"], (8, 2, 3), {"group": 2}, Axes(0, 1)),
        ("Conv", ["x", "w"], (8, 1, 3, 3), {"group": 8}, None),
        ("ConvTranspose", ["x", "w"], (4, 8, 2, 2), {}, Axes(1, 0)),
        ("ConvTranspose", ["x", "w"], (8, 1, 2, 2), {"group": 8}, None),
        ("MatMul", ["x", "w"], (4, 8), {}, Axes(1, 0)),
        ("MatMul", ["x", "w"], (3, 4, 8), {}, Axes(2, 1)),
        ("MatMul", ["w", "x"], (8, 4), {}, Axes(0, 1)),
        ("MatMul", ["x", "w"], (4,), {}, None),
        ("Gemm", ["x", "w"], (4, 8), {}, Axes(1, 0)),
        ("Gemm", ["x", "w"], (8, 4), {"transB": 1}, Axes(0, 1)),
        ("Gemm", ["w", "x"], (8, 4), {}, Axes(0, 1)),
        ("Gemm", ["w", "x"], (4, 8), {"transA": 1}, Axes(1, 0)),
        ("Gemm", ["x", "x", "w"], (8, 4), {}, None),
        ("LSTM", ["x", "w", "x"], (1, 32, 5), {"hidden_size": 8}, Axes(1, 2)),
        ("Einsum", ["x", "w"], (4, 2, 8), {"equation": "btc, chd -> bthd"}, Axes(2, 0)),
        ("Einsum", ["x", "w"], (4, 8), {"equation": "...c,cd->...d"}, Axes(1, 0)),
        ("Einsum", ["x", "w"], (4, 8), {"equation": "bc,cd->bcd"}, None),
        ("Mul", ["x", "w"], (4, 8), {}, None),
    ],
)
def test_axes_of_every_operator(
    kind: str, inputs: list[str], shape: tuple[int, ...], attributes: dict[str, object], axes: Axes | None
) -> None:
    b = Builder()
    b.weight("w", *shape)
    b.node(kind, inputs, "y", **attributes)
    assert [layer.axes for layer in network(b, []).all] == ([] if axes is None else [axes])


def test_the_view_ends_in_outputs_and_inputs() -> None:
    b = Builder()
    b.weight("w", 4, 8, 2, 3)
    b.node("ConvTranspose", ["x", "w"], "y")
    (layer,) = network(b, []).all
    assert layer.view(np.zeros((4, 8, 2, 3))).shape == (2, 3, 8, 4)
    assert layer.names == {"w", "y", "y_node"}


def test_a_weight_behind_transpose_has_the_axes_it_is_stored_with() -> None:
    b = Builder()
    turned = b.node("Transpose", [b.node("Identity", [b.weight("w", 8, 4)], "same")], "turned")
    b.node("MatMul", ["x", turned], "y")
    (layer,) = network(b, []).all
    assert (layer.weight, layer.axes) == ("w", Axes(0, 1))
    b = Builder()
    b.node("Transpose", [b.weight("k", 3, 3, 4, 8)], "oihw", perm=[3, 2, 0, 1])
    b.node("Conv", ["x", "oihw"], "y")
    (layer,) = network(b, []).all
    assert (layer.weight, layer.axes) == ("k", Axes(3, 2))


def test_a_weight_read_twice_is_one_layer() -> None:
    b = Builder()
    b.weight("w", 8, 8)
    b.node("MatMul", [b.node("MatMul", ["x", "w"], "once"), "w"], "y")
    (layer,) = network(b, []).all
    assert [node.output[0] for node in layer.nodes] == ["once", "y"]


def test_a_weight_that_is_an_embedding_too_is_left_out() -> None:
    b = Builder()
    embedded = b.node("Gather", [b.weight("words", 50, 8), "x"], "embedded")
    hidden = b.node("MatMul", [embedded, b.weight("w", 8, 8)], "hidden")
    b.node("MatMul", [hidden, b.node("Transpose", ["words"], "turned")], "y")
    assert [layer.weight for layer in network(b, []).all] == ["w"]


def test_integers_and_half_precision_are_no_layers() -> None:
    for dtype in (np.float16, np.int8):
        b = Builder()
        b.constant("w", np.ones((4, 8), dtype))
        b.node("MatMul", ["x", "w"], "y")
        assert not network(b, []).all


def test_layers_of_subgraphs_count_and_names_used_twice_do_not() -> None:
    def branch(name: str, weight: str) -> onnx.GraphProto:
        stored = numpy_helper.from_array(np.ones((4, 4), np.float32), weight)
        product = helper.make_node("MatMul", ["x", weight], [f"{name}.y"])
        return helper.make_graph([product], name, [], [value(f"{name}.y", F, None)], [stored])

    b = Builder()
    b.constant("on", np.array(True))
    b.node("If", ["on"], "half", then_branch=branch("one", "w1"), else_branch=branch("two", "w2"))
    b.node("If", ["on"], "y", then_branch=branch("three", "same"), else_branch=branch("four", "same"))
    assert {layer.weight for layer in network(b, []).all} == {"w1", "w2"}


def test_ends_are_layers_without_another_before_or_after() -> None:
    found = {name: Layers(make().graph).ends() for name, make in _NETWORKS.items()}
    assert found == {
        "cnn": {"stem.weight", "head.weight"},
        "transformer": {"query.weight", "key.weight", "value.weight", "classes.weight"},
        "lstm": {"lstm.W", "lstm.R", "head.weight"},
    }


_NETWORKS = {"cnn": cnn, "transformer": transformer, "lstm": lstm}
