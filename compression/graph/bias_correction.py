"""Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2): rounding weights shifts the mean of a
layer's output by (W' - W) E[x], which its bias takes back. E[x] is measured on the calibration samples.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from compression.graph import walk
from compression.graph.equalization import depthwise
from compression.graph.index import Index
from compression.graph.weight_rounding import Rounding, layer_weight

Floats = npt.NDArray[np.float32]


def correct(
    graph: onnx.GraphProto, roundings: Mapping[str, Rounding], means: Mapping[str, Floats]
) -> list[str]:
    """Changes biases in place; returns the names of the corrected nodes. `roundings` are those of weights by
    name, `means` those of each channel of a layer's input.
    """
    index = Index(graph)
    corrected = []
    for node in graph.node:
        weight, mean = layer_weight(node, index), means.get(node.input[0])
        if weight is None or mean is None or node.input[1] not in roundings:
            continue
        shift = output_shift(node, roundings[node.input[1]].round_trip(weight) - weight, mean)
        if shift is not None:
            _subtract(graph, node, index, shift)
            corrected.append(node.name)
    return corrected


def output_shift(node: onnx.NodeProto, change: Floats, mean: Floats) -> Floats | None:
    """Mean change of each output channel; None where the layer has no bias to take it. Padding is not
    considered.
    """
    if node.op_type == "Gemm" and _is_plain(node):
        taps = change if walk.attribute(node, "transB", 0) else change.T
    elif node.op_type == "Conv":
        taps = change.reshape(*change.shape[:2], -1).sum(2)
        if depthwise(node, change) and len(taps) == len(mean):
            return np.asarray(taps[:, 0] * mean, np.float32)
    else:
        return None
    return np.asarray(taps @ mean, np.float32) if taps.shape[1] == len(mean) else None


def _is_plain(gemm: onnx.NodeProto) -> bool:
    factors = [walk.attribute(gemm, name, 1.0) for name in ("alpha", "beta")]
    return factors == [1.0, 1.0] and not walk.attribute(gemm, "transA", 0)


def _subtract(graph: onnx.GraphProto, node: onnx.NodeProto, index: Index, shift: Floats) -> None:
    if len(node.input) > 2 and node.input[2]:
        bias = index.constant(node.input[2])
        if bias is not None:
            index.replace(node.input[2], (bias - shift).astype(np.float32))
        return
    name = f"{node.name}_bias"
    graph.initializer.append(numpy_helper.from_array(-shift, name))
    del node.input[2:]
    node.input.append(name)
