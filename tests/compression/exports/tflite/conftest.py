"""Small graphs in ONNX's own notation, run by both runtimes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compression import runtime
from compression.exports import EXPORTS
from compression.exports.tflite.convert import convert

Array = np.ndarray
Weights = Mapping[str, Array | tuple[int, ...]]
"""Values, or a shape that is filled at random."""


def graph(body: str, weights: Weights, shape: str, opset: int = 17) -> onnx.ModelProto:
    """Of input x to output y."""
    text = f'<ir_version: 9, opset_import: ["": {opset}]> g (float[{shape}] x) => (float[] y) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    random = np.random.default_rng(1)
    for name, given in weights.items():
        shaped = isinstance(given, tuple)
        values = random.standard_normal(given, np.float32) * np.float32(0.3) if shaped else np.asarray(given)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for at, node in enumerate(model.graph.node):
        node.name = f"node{at}"
    return model


def written(model: onnx.ModelProto) -> bytes:
    """Leaves the model as it is."""
    return bytes(convert(onnx.ModelProto.FromString(model.SerializeToString()), "LiteRT"))


Compare = Callable[[onnx.ModelProto, Array], float]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Largest difference of an output, of the largest value; shapes must be equal."""

    def difference(model: onnx.ModelProto, x: Array) -> float:
        (tmp_path / "model.tflite").write_bytes(written(model))
        found = EXPORTS["litert"].session(tmp_path / "model.tflite", 1)({"x": x})
        wanted = runtime.run(runtime.session(model), {"x": x})
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in wanted.items()
        }
        return max(
            float(np.abs(found[name] - value).max() / np.abs(value).max()) for name, value in wanted.items()
        )

    return difference
