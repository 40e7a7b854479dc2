"""A graph made ready for training computes the same, and its weights are initializers of their own."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compression.engine import Engine, Role, normalise
from compression.model import Model
from tests.compression.engine.graphs import check, classifier, model, node, noise, onnxruntime


def same(before: Model, after: Model, *shape: int) -> None:
    check(after)
    x = noise(*shape, seed=11)
    for one, other in zip(onnxruntime(after, {"x": x}), onnxruntime(before, {"x": x}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_constants_become_initializers_and_chains_fold() -> None:
    nodes = [
        node("Constant", [], "w", value=numpy_helper.from_array(noise(3, 4))),
        node("Transpose", ["w"], "turned"),
        node("Constant", [], "number", value_float=0.5),
        node("Mul", ["turned", "number"], "half"),
        node("MatMul", ["x", "half"], "a"),
        node("Constant", [], "axes", value_ints=[0]),
        node("Squeeze", ["kept", "axes"], "bias"),
        node("Add", ["a", "bias"], "y"),
    ]
    before = model(nodes, [("x", [2, 4])], ["y"], {"kept": noise(1, 3, seed=1)})
    after = normalise(before)
    same(before, after, 2, 4)
    assert [n.op_type for n in after.proto.graph.node] == ["MatMul", "Add"]
    assert Engine.from_model(after).roles == {"half": Role.WEIGHT, "bias": Role.BIAS}


def test_a_normalised_model_stays_as_it_is() -> None:
    subject = classifier()
    assert normalise(subject).serialized == subject.serialized


def test_equal_vectors_stored_once_are_untied_and_matrices_are_not() -> None:
    nodes = [
        node("MatMul", ["x", "first"], "a"),
        node("LayerNormalization", ["a", "ones", "zeros"], "b"),
        node("MatMul", ["b", "table"], "c"),
        node("LayerNormalization", ["c", "ones", "zeros"], "d"),
        node("Transpose", ["table"], "turned"),
        node("MatMul", ["d", "turned"], "y"),
    ]
    stored = {"first": noise(4, 4), "table": noise(4, 4, seed=1), "ones": np.ones(4, np.float32)}
    before = model(nodes, [("x", [2, 4])], ["y"], stored | {"zeros": np.zeros(4, np.float32)})
    after = normalise(before)
    same(before, after, 2, 4)
    roles = Engine.from_model(after).roles
    assert {"ones", "ones_2"} == {name for name, role in roles.items() if role is Role.SCALE}
    assert {"zeros", "zeros_2"} == {name for name, role in roles.items() if role is Role.BIAS}
    assert roles["table"] is Role.WEIGHT


def test_scale_and_variance_stored_once_are_untied() -> None:
    nodes = [node("BatchNormalization", ["x", "ones", "zeros", "zeros", "ones"], "y")]
    stored = {"ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    before = model(nodes, [("x", [2, 3, 4])], ["y"], stored)
    after = normalise(before)
    same(before, after, 2, 3, 4)
    engine = Engine.from_model(after).train()
    assert sorted(engine.roles.values()) == [Role.BIAS, Role.SCALE, Role.STATISTIC, Role.STATISTIC]
    engine(x=torch.randn(2, 3, 4))["y"].square().sum().backward()
    assert not torch.equal(engine.values()["ones_2"], torch.ones(3))


def test_the_same_bytes_every_time() -> None:
    nodes = [node("BatchNormalization", ["x", "ones", "zeros", "zeros", "ones"], "y")]
    stored = {"ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    after = normalise(model(nodes, [("x", [2, 3, 4])], ["y"], stored))
    assert [t.name for t in after.proto.graph.initializer] == ["ones", "zeros", "ones_2", "zeros_2"]


def test_a_vector_that_is_a_constant_elsewhere_is_untied_from_it() -> None:
    nodes = [
        node("Conv", ["x", "w", "zeros"], "a"),
        node("Sub", ["a", "shaped"], "y"),
        node("Conv", ["x", "v", "zeros"], "z"),
    ]
    nodes.insert(1, node("Unsqueeze", ["zeros", "axes"], "shaped"))
    stored = {"w": noise(4, 3, 1, 1), "v": noise(4, 3, 1, 1), "zeros": np.zeros(4, np.float32)}
    before = model(nodes, [("x", [1, 3, 5, 5])], ["y", "z"], stored | {"axes": np.array([1, 2])})
    after = normalise(before)
    same(before, after, 1, 3, 5, 5)
    biases = [name for name, role in Engine.from_model(after).roles.items() if role is Role.BIAS]
    assert len(biases) == 2


def test_the_steps_of_an_unrolled_layer_stay_tied() -> None:
    nodes = [node("Gemm", ["x", "w", "bias"], "a"), node("Gemm", ["a", "w", "bias"], "y")]
    before = model(nodes, [("x", [2, 4])], ["y"], {"w": noise(4, 4), "bias": noise(4)})
    assert normalise(before).serialized == before.serialized


def test_dequantized_weights_become_float_and_fake_quantized_ones_stay() -> None:
    nodes = [
        node("DequantizeLinear", ["stored", "scales", "zeros"], "w", axis=1),
        node("MatMul", ["x", "w"], "a"),
        node("QuantizeLinear", ["v", "scale", "zero"], "q"),
        node("DequantizeLinear", ["q", "scale", "zero"], "fake"),
        node("MatMul", ["a", "fake"], "y"),
    ]
    stored = {
        "stored": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
        "scales": np.array([0.1, 0.2, 0.3], np.float32),
        "zeros": np.zeros(3, np.int8),
        "v": noise(3, 2),
        "scale": np.float32(0.05),
        "zero": np.int8(0),
    }
    before = model(nodes, [("x", [2, 4])], ["y"], stored)
    after = normalise(before)
    same(before, after, 2, 4)
    assert [n.op_type for n in after.proto.graph.node] == [
        "MatMul",
        "QuantizeLinear",
        "DequantizeLinear",
        "MatMul",
    ]
    engine = Engine.from_model(after)
    engine(x=torch.ones(2, 4))["y"].sum().backward()
    assert all(parameter.grad is not None for _, parameter in engine.parameters_by_role(Role.WEIGHT))


def test_weights_stored_as_integers_become_float() -> None:
    nodes = [
        node("Cast", ["w_int8"], "w_cast", to=1),
        node("Mul", ["w_cast", "w_scale"], "w"),
        node("MatMul", ["x", "w"], "y"),
    ]
    stored = {"w_int8": np.arange(12, dtype=np.int8).reshape(4, 3), "w_scale": np.array([[0.1]], np.float32)}
    before = model(nodes, [("x", [2, 4])], ["y"], stored)
    after = normalise(before)
    same(before, after, 2, 4)
    assert Engine.from_model(after).roles == {"w": Role.WEIGHT}


def test_folding_does_not_blow_up_the_file() -> None:
    nodes = [node("ConstantOfShape", ["shape"], "zeros"), node("Add", ["x", "zeros"], "y")]
    before = model(nodes, [("x", [1])], ["y"], {"shape": np.array([1000, 1000])})
    assert normalise(before).serialized == before.serialized


def test_local_functions_are_inlined() -> None:
    function = onnx.helper.make_function(
        "here",
        "Twice",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], "b")],
        [onnx.helper.make_opsetid("", 17)],
    )
    proto = model([node("Twice", ["x"], "y", domain="here")], [("x", [2])], ["y"]).proto
    proto.functions.append(function)
    proto.opset_import.append(onnx.helper.make_opsetid("here", 1))
    result = Engine.from_model(normalise(Model(proto)))(x=torch.ones(2))["y"]
    assert result.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("opset", [7, 11, 17, 21])
def test_every_operator_set_is_kept(opset: int) -> None:
    subject = model([node("Relu", ["x"], "y")], [("x", [2])], ["y"], opset=opset)
    assert normalise(subject).proto.opset_import[0].version == opset
