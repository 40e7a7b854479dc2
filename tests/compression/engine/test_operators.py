"""The table of operators against the tests that the onnx package itself ships."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
import torch
from onnx import SequenceProto, TensorProto, numpy_helper

from compression.engine import Engine
from compression.engine.convert import to_numpy, to_torch
from compression.engine.graph import Node
from compression.engine.operators import OPERATORS
from compression.engine.operators.table import operator
from compression.errors import CompressionError
from compression.model import Model
from tests.compression.engine import node_cases

RANDOM = "chance: the expected values are those of numpy's generator"
ROUNDING = "the expected values are single-precision rounding noise around zero; here they are zero"
CORNERS = "align_corners goes by the whole number of elements, as in ONNX Runtime"
STRINGS = "strings are no tensors here"
FAILING = {
    **{
        f"test_bernoulli{kind}{form}": RANDOM
        for kind in ("", "_double", "_seed")
        for form in ("", "_expanded")
    },
    **{f"test_training_dropout{kind}": RANDOM for kind in ("", "_mask", "_default", "_default_mask")},
    "test_dft_inverse": ROUNDING,
    "test_dft_inverse_opset19": ROUNDING,
    "test_equal_string": STRINGS,
    "test_equal_string_broadcast": STRINGS,
    "test_resize_downsample_scales_linear_align_corners": CORNERS,
    "test_resize_downsample_scales_cubic_align_corners": CORNERS,
    "test_scan_sum": "Scan of operator set 8, with its batch axis, is refused",
}
DATA = Path(onnx.backend.test.__file__).parent / "data"
OUTSIDE = {
    **{f"test_PReLU_{n}d_multiparam": "operator set 6 aligns the slope with axis 1" for n in (1, 2, 3)},
    **{f"test_gradient_of_add{more}": "Gradient is no inference operator" for more in ("", "_and_mul")},
}


def test_the_table_holds_at_least_150_operators() -> None:
    assert len(OPERATORS) >= 150


def test_node_tests_of_onnx_pass_but_for_those_listed() -> None:
    cases = node_cases.claimed()
    failed = set()
    for name, case in cases.items():
        try:
            node_cases.run(case)
        except (AssertionError, CompressionError, TypeError):
            failed.add(name)
    assert failed == set(FAILING)
    assert len(failed) <= 0.01 * len(cases)


@pytest.mark.parametrize("folder", ["pytorch-converted", "pytorch-operator", "simple"])
def test_models_of_old_operator_sets(folder: str) -> None:
    refused, ran = set(), 0
    for path in sorted((DATA / folder).iterdir()):
        proto = onnx.load(path / "model.onnx")
        try:
            engine = Engine.from_model(Model(proto)).eval()
        except CompressionError:
            refused.add(path.name)
            continue
        for data in path.glob("test_data_set_*"):
            _check(engine, proto, data)
            ran += 1
    assert ran
    assert {name for name in refused if "strnorm" not in name} <= set(OUTSIDE) | _old(folder)


def _old(folder: str) -> set[str]:
    """Operator sets before 7 are read only where the operators were the same."""
    opsets = {
        path.name: onnx.load(path / "model.onnx").opset_import[0].version
        for path in (DATA / folder).iterdir()
    }
    return {name for name, opset in opsets.items() if opset < 7}


def _check(engine: Engine, proto: onnx.ModelProto, data: Path) -> None:
    given = {
        value.name: _load(data / f"input_{index}.pb", value)
        for index, value in enumerate(proto.graph.input)
        if value.name in engine.inputs
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = engine({name: _tensors(value) for name, value in given.items()})
    for index, value in enumerate(proto.graph.output):
        wanted, result = _load(data / f"output_{index}.pb", value), results[value.name]
        pairs = zip(result, wanted, strict=True) if isinstance(wanted, list) else [(result, wanted)]
        for one, other in pairs:
            np.testing.assert_allclose(to_numpy(one), other, rtol=1e-3, atol=1e-5)


def _load(path: Path, value: onnx.ValueInfoProto) -> np.ndarray | list:
    if value.type.HasField("sequence_type"):
        return numpy_helper.to_list(SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(TensorProto.FromString(path.read_bytes()))


def _tensors(value: np.ndarray | list) -> torch.Tensor | list:
    return [to_torch(item) for item in value] if isinstance(value, list) else to_torch(value)


def test_an_operator_is_entered_once() -> None:
    with pytest.raises(TypeError, match="Relu"):
        operator("Relu")(lambda _node: torch.relu)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_the_fused_recurrent_layer_equals_the_loop(kind: str, gates: int, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    x, lengths = torch.randn(6, 3, 4), torch.full((3,), 6)
    w, r = torch.randn(count, gates * 5, 4), torch.randn(count, gates * 5, 5)
    bias, start = torch.randn(count, 2 * gates * 5), torch.randn(count, 3, 5)
    attributes = {"hidden_size": 5, "direction": direction, "linear_before_reset": 1}
    kernel = OPERATORS["", kind].build(Node(kind, ("x", "w", "r"), ("y", "h", "c"), attributes))
    states = (start, start) if kind == "LSTM" else (start,)
    fused, looped = kernel(x, w, r, bias, None, *states), kernel(x, w, r, bias, lengths, *states)
    for one, other in zip(fused, looped, strict=True):
        torch.testing.assert_close(one, other)
