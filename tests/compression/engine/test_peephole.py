"""What exporters write in several nodes is one operator when run."""

import numpy as np
import pytest
import torch

from compression.engine import Engine
from compression.engine.convert import from_proto
from compression.engine.engine import with_constants
from compression.engine.graph import Reader
from compression.engine.peephole import fuse
from compression.model import Model
from tests.compression.engine.graphs import model, node, noise, onnxruntime

GATE = [node("Add", ["h", "three"], "a"), node("Clip", ["a", "zero", "six"], "b")]
PATTERNS = {
    "multiply, divide": (
        [*GATE, node("Mul", ["h", "b"], "c"), node("Div", ["c", "six"], "y")],
        ["HardSwish"],
    ),
    "divide, multiply": (
        [*GATE, node("Div", ["b", "six"], "c"), node("Mul", ["c", "h"], "y")],
        ["HardSwish"],
    ),
    "by a sixth": ([*GATE, node("Mul", ["b", "sixth"], "c"), node("Mul", ["h", "c"], "y")], ["HardSwish"]),
    "gate alone": ([*GATE, node("Div", ["b", "six"], "y")], ["HardSigmoid"]),
    "hard sigmoid": (
        [node("HardSigmoid", ["h"], "c", alpha=1 / 6, beta=0.5), node("Mul", ["h", "c"], "y")],
        ["HardSwish"],
    ),
    "swish": ([node("Sigmoid", ["h"], "c"), node("Mul", ["c", "h"], "y")], ["Swish"]),
    "another tensor": ([node("Sigmoid", ["x"], "c"), node("Mul", ["c", "h"], "y")], ["Sigmoid", "Mul"]),
    "other bounds": (
        [GATE[0], node("Clip", ["a", "zero", "three"], "b"), node("Mul", ["h", "b"], "y")],
        ["Add", "Clip", "Mul"],
    ),
}
NUMBERS = {"zero": 0, "three": 3, "six": 6, "sixth": 1 / 6, "one": 1, "half": 0.5, "root": 2**0.5}
STORED = {name: np.float32(value) for name, value in NUMBERS.items()}
CUMULATIVE = [
    node("Div", ["h", "root"], "u"),
    node("Erf", ["u"], "v"),
    node("Add", ["v", "one"], "w"),
]
PATTERNS |= {
    "gelu, half of x": (
        [*CUMULATIVE, node("Mul", ["h", "half"], "c"), node("Mul", ["c", "w"], "y")],
        ["Gelu"],
    ),
    "gelu, half of the gate": (
        [*CUMULATIVE, node("Mul", ["half", "w"], "c"), node("Mul", ["h", "c"], "y")],
        ["Gelu"],
    ),
    "gelu, half at last": (
        [*CUMULATIVE, node("Mul", ["h", "w"], "c"), node("Mul", ["c", "half"], "y")],
        ["Gelu"],
    ),
    "gelu without half": ([*CUMULATIVE, node("Mul", ["h", "w"], "y")], ["Div", "Erf", "Add", "Mul"]),
}


def fused(subject: Model) -> list[str]:
    reader = Reader(subject.proto)
    constants = {name: from_proto(tensor) for name, tensor in reader.stored.items()}
    return [entry.op_type for entry in fuse(with_constants(reader.graph, constants)).nodes]


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    nodes, expected = PATTERNS[name]
    subject = model([node("Neg", ["x"], "h"), *nodes], [("x", [64])], ["y"], STORED)
    assert fused(subject) == ["Neg", *expected]
    x = noise(64) * 4
    result = Engine.from_model(subject)(x=torch.from_numpy(x))["y"].numpy()
    np.testing.assert_allclose(result, onnxruntime(subject, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_an_intermediate_tensor_somebody_reads_is_still_made() -> None:
    nodes, _ = PATTERNS["divide, multiply"]
    subject = model([node("Neg", ["x"], "h"), *nodes], [("x", [4])], ["y", "c"], STORED)
    assert fused(subject) == ["Neg", "HardSigmoid", "HardSwish"]


def test_attributes_of_old_operator_sets_are_bounds_too() -> None:
    nodes = [
        node("Add", ["x", "three"], "a"),
        node("Clip", ["a"], "b", min=0.0, max=6.0),
        node("Mul", ["x", "b"], "c"),
        node("Div", ["c", "six"], "y"),
    ]
    assert fused(model(nodes, [("x", [4])], ["y"], STORED, opset=10)) == ["HardSwish"]


SCORES = [node("MatMul", ["q", "k"], "s"), node("Mul", ["s", "half"], "t")]
ATTENTION = {
    "scaled scores": [*SCORES, node("Softmax", ["t"], "p", axis=-1), node("MatMul", ["p", "v"], "y")],
    "scaled operands": [
        node("Div", ["q", "three"], "q3"),
        node("Mul", ["half", "k"], "k2"),
        node("MatMul", ["q3", "k2"], "s"),
        node("Softmax", ["s"], "p", axis=3),
        node("MatMul", ["p", "v"], "y"),
    ],
    "masked": [
        *SCORES,
        node("Add", ["mask", "t"], "m"),
        node("Softmax", ["m"], "p", axis=-1),
        node("MatMul", ["p", "v"], "y"),
    ],
    "over another axis": [
        node("MatMul", ["q", "k"], "s"),
        node("Softmax", ["s"], "p", axis=2),
        node("MatMul", ["p", "v"], "y"),
    ],
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("heads", [2, 1])
def test_attention(name: str, heads: int) -> None:
    """With one head of keys for two of queries the operands only broadcast."""
    operands = {
        "q": noise(3, 2, 5, 4),
        "k": noise(3, heads, 4, 5, seed=1),
        "v": noise(3, heads, 5, 6, seed=2),
    }
    inputs = [(key, array.shape) for key, array in operands.items()]
    subject = model(ATTENTION[name], inputs, ["y"], STORED | {"mask": noise(5, 5, seed=3)})
    assert fused(subject) == ["Attention"]
    result = Engine.from_model(subject)({key: torch.from_numpy(array) for key, array in operands.items()})[
        "y"
    ]
    np.testing.assert_allclose(
        result.detach().numpy(), onnxruntime(subject, operands)[0], rtol=1e-5, atol=1e-6
    )


def test_weights_of_attention_somebody_reads_are_not_fused_away() -> None:
    inputs = [("q", [1, 2, 5, 4]), ("k", [1, 2, 4, 5]), ("v", [1, 2, 5, 4])]
    subject = model(ATTENTION["scaled scores"], inputs, ["y", "p"], STORED)
    assert fused(subject) == ["MatMul", "Mul", "Softmax", "MatMul"]


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("bias", [(5,), (1,), (3, 5)])
def test_a_product_and_a_sum(shape: tuple[int, ...], bias: tuple[int, ...]) -> None:
    nodes = [node("MatMul", ["x", "w"], "a"), node("Add", ["b", "a"], "y")]
    subject = model(nodes, [("x", shape)], ["y"], {"w": noise(4, 5), "b": noise(*bias, seed=1)})
    assert fused(subject) == ["Linear"]
    x = noise(*shape, seed=2)
    result = Engine.from_model(subject)(x=torch.from_numpy(x))["y"].detach().numpy()
    np.testing.assert_allclose(result, onnxruntime(subject, {"x": x})[0], rtol=1e-5, atol=1e-6)
