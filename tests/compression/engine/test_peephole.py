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
STORED = {
    name: np.float32(value) for name, value in (("zero", 0), ("three", 3), ("six", 6), ("sixth", 1 / 6))
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
