"""The node tests that the onnx package itself ships, as far as the engine claims their operators."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from compression.engine import Engine
from compression.engine.convert import NARROW, to_numpy, to_torch
from compression.engine.operators import OPERATORS
from compression.model import Model

ULPS = {torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}
"""Two steps of these types, as onnx's own runner allows, where that is more than a case's tolerance."""


@cache
def claimed() -> dict[str, Any]:
    """By name: every case whose operators are all in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return {case.name: case for case in cases if operators(case.model.graph) <= set(OPERATORS)}


def operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    return set(_operators(graph)) - {("", "Constant")}


def _operators(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _operators(attribute.g)


def run(case: Any) -> None:
    """Raises where the engine differs from what the case expects."""
    engine = Engine.from_model(Model(case.model)).eval()
    for inputs, expected in case.data_sets:
        given = {
            name: _tensor(value) for name, value in zip(engine.inputs, _given(case, inputs), strict=False)
        }
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = engine(given)
        for name, wanted in zip(engine.outputs, expected, strict=True):
            compare(results[name], wanted, case)


def _given(case: Any, inputs: list[Any]) -> list[Any]:
    return [value for value, _ in zip(inputs, case.model.graph.input, strict=False)]


def _tensor(value: Any) -> Any:
    if isinstance(value, list):
        return [_tensor(item) for item in value]
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    return None if value is None else to_torch(np.asarray(value))


def compare(result: Any, wanted: Any, case: Any) -> None:
    if isinstance(wanted, list):
        assert len(result) == len(wanted)
        for one, other in zip(result, wanted, strict=True):
            compare(one, other, case)
        return
    onnx_type = wanted.data_type if isinstance(wanted, TensorProto) else None
    array = numpy_helper.to_array(wanted) if isinstance(wanted, TensorProto) else np.asarray(wanted)
    assert result.dtype == (NARROW[onnx_type] if onnx_type in NARROW else to_torch(array).dtype)
    got = to_numpy(result)
    assert got.shape == array.shape
    if array.dtype.kind not in "biufc":
        got, array = got.astype(np.float32), array.astype(np.float32)
    np.testing.assert_allclose(got, array, rtol=max(case.rtol, ULPS.get(result.dtype, 0)), atol=case.atol)
