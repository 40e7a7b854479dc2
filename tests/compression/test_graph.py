import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.graph import liveness, macs, order, shapes, walk, weights
from compression.inspection import Trait
from tests.compression import hostile

F = TensorProto.FLOAT


def one(made: onnx.NodeProto, opset: int = 17, **sizes: list[int]) -> tuple[onnx.ModelProto, shapes.Shapes]:
    """A graph of one node whose inputs have the given sizes."""
    inputs = [helper.make_tensor_value_info(name, F, size) for name, size in sizes.items()]
    output = helper.make_empty_tensor_value_info(made.output[0])
    graph = helper.make_graph([made], "g", inputs, [output])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model, shapes.infer(model, sizes)


def node(kind: str, **attributes: object) -> onnx.NodeProto:
    names = {"LSTM": ["x", "w", "r"], "Relu": ["x"]}.get(kind, ["x", "w"])
    return helper.make_node(kind, names, ["y"], **attributes)


@pytest.mark.parametrize(
    ("made", "sizes", "expected"),
    [
        (node("Conv", pads=[1] * 4), {"x": [2, 3, 8, 8], "w": [5, 3, 3, 3]}, 2 * 5 * 64 * 27),
        (node("Conv", group=4), {"x": [1, 4, 8, 8], "w": [4, 1, 3, 3]}, 4 * 36 * 9),
        (node("ConvTranspose", strides=[2, 2]), {"x": [1, 3, 8, 8], "w": [3, 5, 2, 2]}, 3 * 64 * 20),
        (node("Gemm", transA=1), {"x": [7, 4], "w": [7, 5]}, 4 * 5 * 7),
        (node("MatMul"), {"x": [2, 6, 4], "w": [4, 5]}, 2 * 6 * 5 * 4),
        (node("LSTM", hidden_size=4), {"x": [3, 2, 5], "w": [1, 16, 5], "r": [1, 16, 4]}, 3 * 2 * 16 * 9),
        (node("Einsum", equation="bik,bkj->bij"), {"x": [2, 3, 4], "w": [2, 4, 5]}, 120),
        (node("Relu"), {"x": [3, 4]}, 0),
    ],
)
def test_macs_of_each_operator(made: onnx.NodeProto, sizes: dict[str, list[int]], expected: int) -> None:
    model, known = one(made, **sizes)
    assert macs.count(model.graph.node, known) == expected


def test_macs_of_attention() -> None:
    model, known = one(
        helper.make_node("Attention", ["q", "k", "v"], ["y"]),
        23,
        q=[1, 4, 6, 8],
        k=[1, 4, 9, 8],
        v=[1, 4, 9, 5],
    )
    assert macs.count(model.graph.node, known) == 4 * 6 * 9 * (8 + 5)


def test_macs_are_unknown_where_shapes_are() -> None:
    model, _ = one(helper.make_node("MatMul", ["x", "w"], ["y"]), x=[2, 4], w=[4, 5])
    assert macs.count(model.graph.node, {}) is None


def test_macs_of_if_are_those_of_its_larger_branch() -> None:
    graph = onnx.ModelProto.FromString(hostile.nested_ifs(3)).graph
    assert macs.count(graph.node, {}) == 0


def chain() -> onnx.ModelProto:
    """x -> a -> b -> y, with x needed again at the end: three tensors of 400 bytes live at once."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["flat"]),
        helper.make_node("Neg", ["flat"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, F, [1, 100]) for name in "xy"]
    shape = numpy_helper.from_array(np.array([1, 100]), "shape")
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [shape]), ir_version=8,
                             opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip


def test_peak_counts_views_once() -> None:
    model = chain()
    assert liveness.peak(model.graph, shapes.infer(model, {"x": (1, 100)})) == 3 * 400


def test_peak_of_a_quantized_graph_is_that_of_its_integers() -> None:
    scale = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(0), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("Relu", ["xd"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["aq"]),
        helper.make_node("DequantizeLinear", ["aq", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, F, [1, 100]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], scale), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    assert liveness.peak(model.graph, shapes.infer(model, {"x": (1, 100)})) == 400 + 100
    assert weights.traits(model.graph) == {Trait.QUANTIZED}
    assert weights.params(model.graph) == 0


def test_peak_leaves_out_what_comes_of_weights_alone() -> None:
    model = chain()
    weight = numpy_helper.from_array(np.ones((1000, 100), np.float16), "half")
    model.graph.initializer.append(weight)
    model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["whole"], to=F))
    model.graph.node.insert(1, helper.make_node("Transpose", ["whole"], ["turned"]))
    assert liveness.peak(model.graph, shapes.infer(model, {"x": (1, 100)})) == 3 * 400


def test_sorting_knows_what_subgraphs_read() -> None:
    graph = onnx.ModelProto.FromString(hostile.if_nest_12()).graph
    late = helper.make_node("Not", ["c"], ["d"])
    graph.node[0].input[0] = "d"
    graph.node.append(late)
    order.sort(graph)
    assert [node.op_type for node in graph.node] == ["Not", "If"]
    assert walk.captured(graph.node[1]) == {"x", "c"}
