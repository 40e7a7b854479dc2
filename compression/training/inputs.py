"""Which weights read a graph input, and how large that input is."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from compression.dataset import Split
from compression.graph.index import Index
from compression.inspection import TensorSpec

_LAYERS = {"Conv", "Gemm", "MatMul"}
_LAYOUT = {
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Pad",
    "Cast",
    "Identity",
    "QuantizeLinear",
    "Clip",
    "DequantizeLinear",
}
_SEEN = 256


def magnitudes(split: Split, inputs: Sequence[TensorSpec]) -> dict[str, float]:
    """Root mean square of each input over the first samples."""
    feeds = split.feeds(inputs)
    return {
        spec.name: float(np.sqrt(np.mean(np.square(np.asarray(feeds[spec.name][:_SEEN], np.float64)))))
        for spec in inputs
        if "float" in spec.dtype
    }


def input_weights(graph: onnx.GraphProto, sizes: Mapping[str, float]) -> dict[str, float]:
    """Weight, or scale that it is rounded by -> the magnitude of the graph input that it multiplies, where
    that is above 1.
    """
    index = Index(graph)
    found = {}
    for node in graph.node:
        if node.op_type in _LAYERS:
            source, weight = (_origin(name, index) for name in node.input[:2])
            if sizes.get(source, 0.0) > 1:
                found[weight] = sizes[source]
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in found:
            found[node.input[1]] = found[node.input[0]]
    return found


def _origin(name: str, index: Index) -> str:
    while (
        name not in index.initializers
        and (node := index.producer.get(name)) is not None
        and node.op_type in _LAYOUT
    ):
        name = node.input[0]
    return name
