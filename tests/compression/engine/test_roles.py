"""Which stored tensors are parameters, and which are mere constants."""

import numpy as np
import pytest

from compression.engine import Engine, Role
from tests.compression.engine.graphs import model, node, noise

F32 = np.float32


def roles(nodes: list, stored: dict, opset: int = 17) -> dict[str, Role]:
    return Engine.from_model(model(nodes, [("x", [2, 4, 6, 6])], ["y"], stored, opset)).roles


def test_bounds_epsilons_factors_and_scales_are_constants() -> None:
    nodes = [
        node("Clip", ["x", "low", "high"], "a"),
        node("Mul", ["a", "sixth"], "b"),
        node("Add", ["b", "epsilon"], "c"),
        node("Resize", ["c", "", "scales"], "d", mode="nearest"),
        node("Pad", ["d", "pads", "value"], "e"),
        node("Add", ["e", "mask"], "y"),
    ]
    stored = {
        "low": F32(0),
        "high": F32(6),
        "sixth": np.array([1 / 6], F32),
        "epsilon": F32(1e-5),
        "scales": np.array([1, 1, 2, 2], F32),
        "pads": np.zeros(8, np.int64),
        "value": F32(0),
        "mask": np.where(np.eye(12) > 0, 0, -1e9).astype(F32),
    }
    assert set(roles(nodes, stored).values()) == {Role.CONSTANT}


def test_what_prepares_the_input_is_no_parameter() -> None:
    nodes = [
        node("Sub", ["x", "mean"], "a"),
        node("Div", ["a", "deviation"], "b"),
        node("Relu", ["b"], "c"),
        node("Mul", ["c", "scale"], "d"),
        node("Add", ["bias", "d"], "y"),
    ]
    stored = {name: noise(4, 1, 1) for name in ("mean", "deviation", "scale", "bias")}
    assert roles(nodes, stored) == {
        "mean": Role.CONSTANT,
        "deviation": Role.CONSTANT,
        "scale": Role.SCALE,
        "bias": Role.BIAS,
    }
    assert roles([node("Mul", ["x", "scale"], "y")], {"scale": noise(4, 1, 1)}) == {"scale": Role.CONSTANT}


LAYOUTS = {
    "Identity": (node("Identity", ["kept"], "weight"), noise(6, 3)),
    "Transpose": (node("Transpose", ["kept"], "weight", perm=[1, 0]), noise(3, 6)),
    "Reshape": (node("Reshape", ["kept", "shape"], "weight"), noise(18)),
    "Cast": (node("Cast", ["kept"], "weight", to=1), noise(6, 3).astype(np.float16)),
    "Squeeze": (node("Squeeze", ["kept", "axis"], "weight"), noise(1, 6, 3)),
    "Slice": (node("Slice", ["kept", "axis", "six"], "weight"), noise(9, 3)),
}


@pytest.mark.parametrize("operator", LAYOUTS)
def test_a_weight_is_found_behind_layout(operator: str) -> None:
    before, kept = LAYOUTS[operator]
    stored = {"kept": kept, "shape": np.array([6, 3]), "axis": np.array([0]), "six": np.array([6])}
    assert roles([before, node("MatMul", ["x", "weight"], "y")], stored)["kept"] is Role.WEIGHT


def test_weights_joined_by_concat_are_all_found() -> None:
    nodes = [node("Concat", ["q", "k"], "qk", axis=1), node("MatMul", ["x", "qk"], "y")]
    assert roles(nodes, {"q": noise(6, 2), "k": noise(6, 3)}) == {"q": Role.WEIGHT, "k": Role.WEIGHT}


def test_a_weight_is_found_behind_fake_quantization() -> None:
    nodes = [
        node("QuantizeLinear", ["w", "scale", "zero"], "q"),
        node("DequantizeLinear", ["q", "scale", "zero"], "d"),
        node("MatMul", ["x", "d"], "y"),
    ]
    stored = {"w": noise(6, 3), "scale": F32(0.02), "zero": np.int8(0)}
    assert roles(nodes, stored) == {
        "w": Role.WEIGHT,
        "scale": Role.QUANTIZATION_SCALE,
        "zero": Role.ZERO_POINT,
    }


def test_an_initial_state_times_a_matrix_is_no_weight() -> None:
    nodes = [node("MatMul", ["state", "w"], "a"), node("Add", ["x", "a"], "y")]
    assert roles(nodes, {"state": noise(6, 6), "w": noise(6, 6)}) == {
        "state": Role.CONSTANT,
        "w": Role.WEIGHT,
    }


def test_recurrent_and_normalisation_parameters() -> None:
    nodes = [
        node("InstanceNormalization", ["x", "scale", "bias"], "a"),
        node("PRelu", ["a", "slope"], "b"),
        node("Reshape", ["b", "shape"], "c"),
        node("LSTM", ["c", "w", "r", "both", "", "start"], "y", hidden_size=5),
    ]
    stored = {
        "scale": noise(4),
        "bias": noise(4),
        "slope": noise(4, 1, 1),
        "shape": np.array([8, 6, 6]),
        "w": noise(1, 20, 6),
        "r": noise(1, 20, 5),
        "both": noise(1, 40),
        "start": noise(1, 6, 5),
    }
    found = roles(nodes, stored)
    assert {name: role.value for name, role in found.items()} == {
        "scale": "scale",
        "bias": "bias",
        "slope": "scale",
        "shape": "constant",
        "w": "weight",
        "r": "weight",
        "both": "bias",
        "start": "constant",
    }
