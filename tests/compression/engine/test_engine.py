"""An ONNX graph as a module: runs, differentiates, gives its values back."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from compression.engine import Engine, Role, normalise
from compression.errors import CompressionError, ErrorKind
from compression.model import Model
from tests.compression.engine.graphs import classifier, model, node, noise, onnxruntime


def test_outputs_equal_onnx_runtime() -> None:
    subject, image = classifier(), noise(4, 3, 8, 8)
    (wanted,) = onnxruntime(subject, {"image": image})
    result = Engine.from_model(subject).eval()(image=torch.from_numpy(image))["logits"]
    np.testing.assert_allclose(result.detach().numpy(), wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_untouched_model_comes_back_bit_for_bit() -> None:
    subject = classifier()
    assert Engine.from_model(subject).write_back().serialized == subject.serialized


def test_a_gradient_reaches_every_weight_and_nothing_else() -> None:
    engine = Engine.from_model(classifier()).train()
    engine(image=torch.randn(4, 3, 8, 8))["logits"].square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in engine.parameters_by_role()}
    assert gradients.keys() == {
        *("stem.weight", "norm.scale", "norm.bias", "body.weight", "body.bias", "head.weight", "head.bias")
    }
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients.values())


def test_trained_values_return_under_their_names() -> None:
    subject = classifier()
    engine = Engine.from_model(subject)
    with torch.no_grad():
        for _, parameter in engine.parameters_by_role(Role.WEIGHT):
            parameter.mul_(2)
    before, after = ({t.name: t for t in m.proto.graph.initializer} for m in (subject, engine.write_back()))
    assert list(before) == list(after)
    for name, tensor in after.items():
        factor = 2 if name.endswith("weight") else 1
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor), factor * numpy_helper.to_array(before[name])
        )


def test_the_model_it_was_made_from_stays_as_it_was() -> None:
    subject = classifier()
    before = subject.sha256
    engine = Engine.from_model(subject)
    with torch.no_grad():
        next(engine.parameters()).zero_()
    engine.write_back()
    assert Model(subject.proto).sha256 == before


def test_float_data_stays_float_data() -> None:
    subject = classifier()
    tensor = next(t for t in subject.proto.graph.initializer if t.name == "head.bias")
    values = numpy_helper.to_array(tensor).tolist()
    tensor.CopyFrom(onnx.helper.make_tensor("head.bias", TensorProto.FLOAT, [5], values))
    engine = Engine.from_model(subject)
    assert engine.write_back().serialized == subject.serialized
    with torch.no_grad():
        engine.values()["head.bias"].fill_(0.5)
    written = next(t for t in engine.write_back().proto.graph.initializer if t.name == "head.bias")
    assert list(written.float_data) == [0.5] * 5
    assert not written.raw_data


def test_channels_last_values_are_written_in_order() -> None:
    subject = classifier()
    engine = Engine.from_model(subject).to(memory_format=torch.channels_last)
    assert engine.write_back().serialized == subject.serialized


def test_weights_in_constant_nodes_are_trained_and_written() -> None:
    weight = noise(4, 3)
    constant = node("Constant", [], "weight", value=numpy_helper.from_array(weight))
    subject = model([constant, node("MatMul", ["x", "weight"], "y")], [("x", [2, 4])], ["y"])
    engine = Engine.from_model(subject)
    assert engine.roles == {"weight": Role.WEIGHT}
    assert engine.write_back().serialized == subject.serialized
    with torch.no_grad():
        engine.values()["weight"].add_(1)
    written = engine.write_back().proto.graph.node[0].attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(written), weight + 1)


def test_statistics_follow_the_batches_in_train_mode_and_are_written() -> None:
    subject, image = classifier(), torch.randn(16, 3, 8, 8)
    engine = Engine.from_model(subject).train()
    stem = Engine.from_model(subject, outputs=["stem"])(image=image)["stem"].detach()
    before = engine.values()["norm.mean"].clone()
    engine(image=image)
    expected = 0.9 * before + 0.1 * stem.mean((0, 2, 3))
    torch.testing.assert_close(engine.values()["norm.mean"], expected)
    written = {t.name: numpy_helper.to_array(t) for t in engine.write_back().proto.graph.initializer}
    np.testing.assert_array_equal(written["norm.mean"], engine.values()["norm.mean"].numpy())


@pytest.mark.parametrize("mode", ["eval", "frozen"])
def test_statistics_stay_in_eval_mode_and_when_frozen(mode: str) -> None:
    subject = classifier()
    engine = Engine.from_model(subject).train(mode == "frozen")
    engine.frozen_statistics = mode == "frozen"
    engine(image=torch.randn(4, 3, 8, 8))
    assert engine.write_back().serialized == subject.serialized


def test_dropout_drops_in_train_mode_only() -> None:
    engine = Engine.from_model(model([node("Dropout", ["x"], "y")], [("x", [64, 64])], ["y"], opset=13))
    x = torch.ones(64, 64)
    assert torch.equal(engine.eval()(x=x)["y"], x)
    dropped = engine.train()(x=x)["y"]
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6


def test_a_deep_copy_has_its_own_values_and_mode() -> None:
    engine = Engine.from_model(classifier()).train()
    average = copy.deepcopy(engine).eval()
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.zero_()
    image = torch.randn(2, 3, 8, 8)
    assert not bool(average(image=image)["logits"].any())
    assert bool(engine(image=image)["logits"].any())
    before = engine.values()["norm.mean"].clone()
    average(image=image)
    assert torch.equal(engine.values()["norm.mean"], before)


def test_tied_matrices_stay_one_parameter() -> None:
    nodes = [
        node("Gather", ["table", "ids"], "embedded"),
        node("Transpose", ["table"], "turned", perm=[1, 0]),
        node("MatMul", ["embedded", "turned"], "y"),
    ]
    subject = model(nodes, [], ["y"], {"table": noise(7, 4), "ids": np.array([1, 5])})
    engine = Engine.from_model(subject)
    assert [name for name, _ in engine.parameters_by_role()] == ["table"]
    engine()["y"].sum().backward()
    assert bool(engine.values()["table"].grad.all())
    assert Engine.from_model(normalise(subject)).roles["table"] is Role.EMBEDDING


@pytest.mark.parametrize("name", ["forward", "a.b", "a%2Eb", "training", "tensors", "weight ü/1"])
def test_any_tensor_name_will_do(name: str) -> None:
    subject = model([node("MatMul", ["x", name], "y")], [("x", [2, 4])], ["y"], {name: noise(4, 3)})
    engine = Engine.from_model(subject)
    engine.load_state_dict(engine.state_dict())
    assert engine(x=torch.ones(2, 4))["y"].shape == (2, 3)
    assert list(engine.values()) == [name]


def test_intermediate_tensors_can_be_asked_for() -> None:
    engine = Engine.from_model(classifier(), outputs=["body", "norm"]).eval()
    results = engine({"image": torch.randn(2, 3, 8, 8)})
    assert {name: tuple(value.shape) for name, value in results.items()} == {
        "body": (2, 8, 3, 3),
        "norm": (2, 6, 8, 8),
    }


def test_a_missing_operator_is_named_with_its_nodes_and_what_still_works() -> None:
    nodes = [
        node("StringNormalizer", ["x"], "y"),
        onnx.helper.make_node("Gelu", ["y"], ["z"], domain="maker"),
    ]
    with pytest.raises(CompressionError) as refusal:
        Engine.from_model(model(nodes, [("x", [2])], ["z"]))
    error = refusal.value
    assert (error.code, error.kind) == ("engine_unsupported", ErrorKind.UNSUPPORTED)
    assert error.detail == "the training engine has no StringNormalizer (y); maker.Gelu (z)"
    assert "static_quantization" in error.suggestions[0].title


def test_an_operator_that_meant_something_else_is_refused() -> None:
    subject = model([node("Add", ["x", "x"], "y")], [("x", [2])], ["y"], opset=6)
    with pytest.raises(CompressionError, match="operator set 6"):
        Engine.from_model(subject)


def test_nodes_out_of_order_run() -> None:
    nodes = [node("Exp", ["b"], "y"), node("Relu", ["a"], "b"), node("Neg", ["x"], "a")]
    result = Engine.from_model(model(nodes, [("x", [2])], ["y"]))(x=torch.tensor([1.0, -1.0]))["y"]
    torch.testing.assert_close(result, torch.tensor([1.0, torch.e]))


def test_half_precision_files_run_and_return() -> None:
    stored = {"weight": noise(4, 3).astype(np.float16)}
    subject = model([node("MatMul", ["x", "weight"], "y")], [("x", [2, 4])], ["y"], stored)
    engine = Engine.from_model(subject)
    assert engine(x=torch.ones(2, 4, dtype=torch.float16))["y"].dtype == torch.float16
    assert engine.write_back().serialized == subject.serialized


def test_four_bit_zero_points_come_back_bit_for_bit() -> None:
    nodes = [node("DequantizeLinear", ["q", "scale", "zero"], "w"), node("MatMul", ["x", "w"], "y")]
    subject = model(nodes, [("x", [2, 4])], ["y"], {"scale": np.float32(0.5)}, opset=21)
    values = [(i % 16) - 8 for i in range(12)]
    subject.proto.graph.initializer.extend(
        [
            onnx.helper.make_tensor("q", TensorProto.INT4, [4, 3], values),
            onnx.helper.make_tensor("zero", TensorProto.INT4, [], [1]),
        ]
    )
    engine = Engine.from_model(subject)
    expected = (torch.tensor(values).reshape(4, 3).float() - 1) * 0.5
    torch.testing.assert_close(engine(x=torch.eye(4)[:2])["y"], expected[:2])
    assert engine.write_back().serialized == subject.serialized
    engine.values()["zero"].fill_(2)
    written = next(t for t in engine.write_back().proto.graph.initializer if t.name == "zero")
    assert (written.data_type, int(numpy_helper.to_array(written))) == (TensorProto.INT4, 2)
