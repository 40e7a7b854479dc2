"""QuantizeLinear and DequantizeLinear with a gradient."""

import numpy as np
import pytest
import torch

from compression.engine import Engine
from compression.engine.graph import Node
from compression.engine.operators import OPERATORS
from compression.model import Model
from tests.compression.engine.graphs import model, node, noise, onnxruntime


def fake_quantized(zero_point: np.generic, scale: float = 0.1) -> Model:
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "q"),
        node("DequantizeLinear", ["q", "scale", "zero"], "y"),
    ]
    return model(nodes, [("x", [64])], ["y"], {"scale": np.float32(scale), "zero": zero_point}, opset=21)


@pytest.mark.parametrize("zero_point", [np.int8(0), np.uint8(128), np.int16(0), np.uint16(30000)])
def test_values_are_those_of_onnx_runtime_with_and_without_gradient(zero_point: np.generic) -> None:
    subject, x = fake_quantized(zero_point), noise(64) * 8
    (wanted,) = onnxruntime(subject, {"x": x})
    engine = Engine.from_model(subject)
    for needs_gradient in (False, True):
        given = torch.from_numpy(x).requires_grad_(needs_gradient)
        np.testing.assert_array_equal(engine(x=given)["y"].detach().numpy(), wanted)


def test_the_gradient_passes_inside_the_range_and_stops_outside() -> None:
    x = torch.tensor([0.03, -5.04, 12.6, 12.8, -12.9], requires_grad=True)
    Engine.from_model(fake_quantized(np.int8(0)))(x=x)["y"].sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))


def test_the_gradient_of_the_scale_is_that_of_learned_step_size() -> None:
    engine = Engine.from_model(fake_quantized(np.int8(0)))
    scale = engine.values()["scale"].requires_grad_()
    x = torch.tensor([0.03, -0.47, 20.0, -20.0])
    engine(x=x)["y"].sum().backward()
    inside = torch.round(x[:2] / 0.1) - x[:2] / 0.1
    torch.testing.assert_close(scale.grad, inside.sum() + 127 - 128)


def test_a_learnt_scale_is_written_back() -> None:
    engine = Engine.from_model(fake_quantized(np.int8(0)))
    with torch.no_grad():
        engine.values()["scale"].fill_(0.25)
        engine.values()["zero"].fill_(3)
    written = Engine.from_model(engine.write_back()).values()
    assert (written["scale"].item(), written["zero"].item()) == (0.25, 3)


@pytest.mark.parametrize(("axis", "block"), [(0, 0), (1, 0), (1, 2)])
def test_scales_per_channel_and_per_block(axis: int, block: int) -> None:
    x = torch.randn(4, 6)
    scale = torch.rand((4, 3) if block else (x.shape[axis],)) + 0.1
    attributes = {"axis": axis, "block_size": block}
    q = OPERATORS["", "QuantizeLinear"].build(Node("QuantizeLinear", ("x", "s"), ("q",), attributes))
    d = OPERATORS["", "DequantizeLinear"].build(Node("DequantizeLinear", ("q", "s"), ("y",), attributes))
    zero = torch.full(scale.shape, 128, dtype=torch.uint8)
    kernel = OPERATORS["", "QuantizeLinear"].build(
        Node("QuantizeLinear", ("x", "s", "z"), ("q",), attributes)
    )
    assert q(x, scale).dtype == torch.uint8
    restored = d(kernel(x, scale, zero), scale, zero)
    shape = [-1 if dim == axis else 1 for dim in range(2)]
    step = scale.repeat_interleave(block, 1) if block else scale.reshape(shape)
    assert bool(((restored - x).abs() <= step / 2 + 1e-6).all())


def limited(low: int, high: int) -> Model:
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "q", axis=0),
        node("Clip", ["q", "low", "high"], "c"),
        node("DequantizeLinear", ["c", "scale", "zero"], "y", axis=0),
    ]
    stored = {
        "scale": np.array([0.1, 0.3, 0.02], np.float32),
        "zero": np.zeros(3, np.int8),
        "low": np.int8(low),
        "high": np.int8(high),
    }
    return model(nodes, [("x", [3, 40])], ["y"], stored, opset=17)


def test_a_pair_runs_as_one_operator_per_channel_and_with_fewer_levels() -> None:
    subject, x = limited(-7, 7), noise(3, 40)
    engine = Engine.from_model(subject)
    (wanted,) = onnxruntime(subject, {"x": x})
    assert [call.operator for call in engine._plan.calls] == [OPERATORS["engine", "FakeQuantize"]]
    np.testing.assert_array_equal(engine(x=torch.from_numpy(x))["y"].numpy(), wanted)


def test_the_fused_gradients_are_those_of_the_operators_one_by_one() -> None:
    subject, x = limited(-7, 7), torch.from_numpy(noise(3, 40))
    weights = torch.from_numpy(noise(3, 40, seed=1))
    gradients = []
    for outputs in (["y"], ["y", "q"]):
        engine = Engine.from_model(subject, outputs=outputs)
        scale, given = engine.values()["scale"].requires_grad_(), x.clone().requires_grad_()
        (engine(x=given)["y"] * weights).sum().backward()
        gradients.append((scale.grad, given.grad))
    for fused, single in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, single)


def test_a_weight_behind_rounding_and_limits_is_still_a_weight() -> None:
    nodes = [
        node("QuantizeLinear", ["w", "scale", "zero"], "q"),
        node("Clip", ["q", "low", "high"], "c"),
        node("DequantizeLinear", ["c", "scale", "zero"], "d"),
        node("MatMul", ["x", "d"], "y"),
    ]
    stored = {"w": noise(4, 5), "scale": np.float32(0.1), "zero": np.int8(0)}
    bounds = {"low": np.int8(-7), "high": np.int8(7)}
    engine = Engine.from_model(model(nodes, [("x", [2, 4])], ["y"], stored | bounds, opset=17))
    assert {name for name, _ in engine.parameters_by_role()} == {"w"}


def test_the_observer_sees_what_is_about_to_be_rounded() -> None:
    engine, seen = Engine.from_model(fake_quantized(np.int8(0))), {}
    engine.observer = seen.__setitem__
    x = torch.from_numpy(noise(64))
    engine(x=x)
    assert list(seen) == ["scale"]
    torch.testing.assert_close(seen["scale"], x)


def test_learning_makes_a_scale_a_parameter_that_is_found_and_written_back() -> None:
    engine = Engine.from_model(fake_quantized(np.int8(0)))
    engine.learn(["scale"])
    ((name, scale),) = engine.parameters_by_role()
    assert name == "scale"
    torch.nn.init.constant_(scale, 0.5)
    assert Engine.from_model(engine.write_back()).values()["scale"].item() == 0.5
