"""Slots are emptied after their last use; control flow captures outer names; sizes stay on the host."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compression.engine import Engine, Role
from compression.engine.graph import Graph, Node
from compression.engine.operators import OPERATORS
from compression.engine.operators.table import Context, Operator
from compression.engine.plan import compile_graph
from tests.compression.engine.graphs import model, node, noise, onnxruntime

CPU = Context(training=False, frozen_statistics=False, device=torch.device("cpu"))


def test_a_tensor_is_freed_at_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    made: list[weakref.ref[torch.Tensor]] = []

    def kernel(x: torch.Tensor) -> torch.Tensor:
        alive.append(sum(reference() is not None for reference in made))
        y = x + 1
        made.append(weakref.ref(y))
        return y

    monkeypatch.setitem(OPERATORS, ("", "Traced"), Operator(lambda _node: kernel))
    names = ["x", "a", "b", "c", "d"]
    nodes = tuple(Node("Traced", (one,), (other,)) for one, other in pairwise(names))
    plan = compile_graph(Graph(("x",), ("d",), nodes), ("x",))
    values = plan.empty()
    values[plan.slots["x"]] = torch.zeros(3)
    (result,) = plan.run(CPU, values)
    assert result.tolist() == [4.0] * 3
    assert alive == [0, 1, 1, 1]


def test_outputs_and_values_read_twice_are_kept() -> None:
    nodes = [node("Relu", ["x"], "a"), node("Neg", ["a"], "b"), node("Add", ["a", "b"], "c")]
    engine = Engine.from_model(model(nodes, [("x", [2])], ["a", "c"]))
    results = engine(x=torch.tensor([1.0, 2.0]))
    assert results["a"].tolist() == [1.0, 2.0]
    assert results["c"].tolist() == [0.0, 0.0]


def _branch(name: str, weight: str, own: np.ndarray | None = None) -> helper.GraphProto:
    stored = [] if own is None else [numpy_helper.from_array(own, weight)]
    return helper.make_graph(
        [node("MatMul", ["hidden", weight], "made")],
        name,
        [],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, None)],
        stored,
    )


def test_branches_see_outer_tensors_and_hold_weights_of_their_own() -> None:
    nodes = [
        node("Relu", ["x"], "hidden"),
        node("ReduceSum", ["x"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], "condition"),
        node(
            "If",
            ["condition"],
            "y",
            then_branch=_branch("then", "outer"),
            else_branch=_branch("else", "own", noise(4, 3, seed=2)),
        ),
    ]
    stored = {"outer": noise(4, 3, seed=1), "zero": np.float32(0)}
    subject = model(nodes, [("x", [2, 4])], ["y"], stored)
    engine = Engine.from_model(subject)
    assert {name for name, role in engine.roles.items() if role is Role.WEIGHT} == {"outer", "own"}
    for sign in (1, -1):
        x = np.abs(noise(2, 4)) * sign + np.float32(0.1)
        (wanted,) = onnxruntime(subject, {"x": x})
        np.testing.assert_allclose(engine(x=torch.from_numpy(x))["y"].detach().numpy(), wanted, rtol=1e-5)
    with torch.no_grad():
        engine.values()["own"].zero_()
    proto = engine.write_back().proto
    attributes = {entry.name: entry.g for entry in proto.graph.node[3].attribute}
    assert not numpy_helper.to_array(attributes["else_branch"].initializer[0]).any()


def test_a_loop_carries_state_and_stacks_what_it_scans() -> None:
    body = helper.make_graph(
        [
            node("MatMul", ["state", "weight"], "next"),
            node("Identity", ["condition"], "going"),
            node("Identity", ["next"], "scanned"),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("scanned", TensorProto.FLOAT, [2, 3]),
        ],
    )
    nodes = [node("Loop", ["count", "", "x"], ["last", "all"], body=body)]
    stored = {"weight": noise(3, 3), "count": np.array(4)}
    subject = model(nodes, [("x", [2, 3])], ["last", "all"], stored)
    x = noise(2, 3, seed=1)
    engine = Engine.from_model(subject)
    results = engine(x=torch.from_numpy(x))
    for result, wanted in zip(results.values(), onnxruntime(subject, {"x": x}), strict=True):
        np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=1e-5)
    results["last"].sum().backward()
    assert bool(engine.values()["weight"].grad.any())


def test_shapes_are_computed_on_the_host_while_tensors_are_elsewhere() -> None:
    """The meta device has no values: reading one there would fail."""
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Gather", ["shape", "first"], "batch"),
        node("Unsqueeze", ["batch", "axes"], "row"),
        node("Concat", ["row", "rest"], "wanted", axis=0),
        node("Reshape", ["x", "wanted"], "flat"),
        node("Slice", ["flat", "starts", "ends", "last"], "cut"),
        node("MatMul", ["cut", "weight"], "product"),
        node("Shape", ["product"], "sizes"),
        node("ConstantOfShape", ["sizes"], "zeros"),
        node("Add", ["product", "zeros"], "y"),
    ]
    stored = {
        "first": np.array(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
        "starts": np.array([0]),
        "ends": np.array([6]),
        "last": np.array([1]),
        "weight": noise(6, 5),
    }
    engine = Engine.from_model(model(nodes, [("x", ["batch", 2, 4])], ["y"], stored)).to("meta")
    result = engine(x=torch.empty(3, 2, 4, device="meta"))["y"]
    assert result.device.type == "meta"
    assert result.shape == (3, 5)
