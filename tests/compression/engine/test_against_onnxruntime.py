"""Operators in settings that onnx's own node tests leave out, drawn from a seed, against ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from compression.engine import Engine
from compression.model import Model
from tests.compression.engine.graphs import Array, onnxruntime

DRAWS = range(12)


class Draw:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def noise(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def ints(self, low: int, high: int, count: int) -> list[int]:
        return [int(i) for i in self.rng.integers(low, high, count)]

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]


def agree(
    op_type: str, operands: list[Array | None], outputs: int = 1, opset: int = 17, **attributes: Any
) -> None:
    names = ["" if operand is None else f"in{index}" for index, operand in enumerate(operands)]
    given = {name: np.asarray(operand) for name, operand in zip(names, operands, strict=True) if name}
    made = [f"out{index}" for index in range(outputs)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    given_attributes = {name: value for name, value in attributes.items() if value is not None}
    graph = helper.make_graph(
        [helper.make_node(op_type, names, made, **given_attributes)],
        "one",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in made],
    )
    subject = Model(
        onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )
    results = Engine.from_model(subject).eval()(
        {name: torch.from_numpy(array) for name, array in given.items()}
    )
    for result, wanted in zip(results.values(), onnxruntime(subject, given), strict=True):
        np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", DRAWS)
def test_convolutions(seed: int) -> None:
    draw = Draw(seed)
    rank, groups = draw.pick(1, 2, 3), draw.pick(1, 2)
    sizes, kernel = draw.ints(6, 9, rank), draw.ints(1, 4, rank)
    strides, dilations = draw.ints(1, 3, rank), draw.ints(1, 3, rank)
    pads, mode = draw.ints(0, 3, 2 * rank), draw.pick("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    shared: dict[str, Any] = {"strides": strides, "group": groups, "auto_pad": mode}
    shared["pads"] = pads if mode == "NOTSET" else None
    shared["dilations"] = dilations if mode == "NOTSET" else None
    weight, bias = draw.noise(6, 4 // groups, *kernel), draw.pick(draw.noise(6), None)
    agree("Conv", [draw.noise(2, 4, *sizes), weight, bias], **shared)
    extra = [draw.ints(0, stride, 1)[0] for stride in strides]
    operands = [draw.noise(2, 4, *sizes), draw.noise(4, 3, *kernel), None]
    agree("ConvTranspose", operands, output_padding=extra, **shared)


@pytest.mark.parametrize("seed", DRAWS)
def test_pools(seed: int) -> None:
    draw = Draw(seed)
    rank = draw.pick(1, 2, 3)
    kernel = draw.ints(1, 4, rank)
    pads = [draw.ints(0, size, 1)[0] for size in kernel * 2]
    shared: dict[str, Any] = {"kernel_shape": kernel, "strides": draw.ints(1, 4, rank), "pads": pads}
    x = draw.noise(2, 3, *draw.ints(6, 10, rank))
    shared["ceil_mode"] = draw.pick(0, 1)
    agree("MaxPool", [x], outputs=2, storage_order=draw.pick(0, 1), **shared)
    agree("AveragePool", [x], count_include_pad=draw.pick(0, 1), opset=22, **shared)


@pytest.mark.parametrize("seed", DRAWS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize(mode: str, seed: int) -> None:
    draw = Draw(seed)
    x, empty = draw.noise(1, 2, *draw.ints(3, 8, 2)), np.zeros(0, np.float32)
    coordinates = draw.pick("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    shared = {"mode": mode, "coordinate_transformation_mode": coordinates, "opset": draw.pick(11, 13, 18)}
    scales = np.array([1, 1, draw.pick(0.6, 1.5, 2), draw.pick(0.5, 1.3, 3)], np.float32)
    agree("Resize", [x, empty, scales], **shared)
    agree(
        "Resize",
        [x, empty, empty if shared["opset"] < 13 else None, np.array([1, 2, *draw.ints(2, 12, 2)])],
        **shared,
    )


@pytest.mark.parametrize("seed", DRAWS)
def test_slices(seed: int) -> None:
    draw = Draw(seed)
    bounds = [np.array(draw.ints(-9, 9, 2)) for _ in range(2)]
    steps = np.array([draw.pick(1, 2, -1, -2), draw.pick(1, -1, 3)])
    agree("Slice", [draw.noise(4, 5, 6), *bounds, np.array([0, -1]), steps])


@pytest.mark.parametrize("seed", DRAWS)
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers(kind: str, gates: int, seed: int) -> None:
    draw = Draw(seed)
    steps, direction = draw.ints(1, 6, 1)[0], draw.pick("forward", "reverse", "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    lengths = draw.pick(None, np.array(draw.ints(1, steps + 1, 3), np.int32))
    functions = {
        "LSTM": draw.pick(None, ["HardSigmoid", "Tanh", "Relu"]),
        "GRU": draw.pick(None, ["HardSigmoid", "Softsign"]),
        "RNN": draw.pick(None, ["Relu"]),
    }[kind]
    operands = [
        draw.noise(steps, 3, 4),
        draw.noise(count, gates * 5, 4),
        draw.noise(count, gates * 5, 5),
        draw.pick(None, draw.noise(count, 2 * gates * 5)),
        lengths,
        draw.pick(None, draw.noise(count, 3, 5)),
    ]
    if kind == "LSTM":
        operands += [draw.pick(None, draw.noise(count, 3, 5)), draw.pick(None, draw.noise(count, 15))]
    agree(
        kind,
        operands,
        outputs=3 if kind == "LSTM" else 2,
        opset=14,
        hidden_size=5,
        direction=direction,
        activations=functions and functions * count,
        linear_before_reset=draw.pick(0, 1) if kind == "GRU" else None,
        clip=draw.pick(None, 0.5) if kind != "RNN" else None,
    )


@pytest.mark.parametrize("opset", [7, 11, 12])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_over_flattened_axes(op_type: str, axis: int, opset: int) -> None:
    agree(op_type, [Draw(axis).noise(3, 4, 5)], opset=opset, axis=axis)


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_pads(mode: str) -> None:
    draw = Draw(0)
    amounts = np.array(draw.ints(-1 if mode == "constant" else 0, 3, 6))
    agree(
        "Pad", [draw.noise(4, 5, 6), amounts, *([np.float32(1.5)] if mode == "constant" else [])], mode=mode
    )
