"""Which integers stand for which weights: scales per layer, chosen once and used by every writer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from compression.graph import walk
from compression.graph.index import Index
from compression.kernels import rounding
from compression.kernels.clustering import shared

Floats = npt.NDArray[np.float32]
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
FEWEST = 64
"""Weights of fewer elements stay floats where they are only stored: their scales would weigh as much."""


@dataclass(frozen=True)
class Rounding:
    scales: Floats
    axis: int | None
    bits: int

    def integers(self, weight: Floats) -> npt.NDArray[np.int8]:
        return rounding.quantize_weight(weight, self.scales, self.axis, self.bits)

    def round_trip(self, weight: Floats) -> Floats:
        return rounding.round_trip(weight, self.scales, self.axis, self.bits)

    def spread(self, rank: int) -> Floats:
        return rounding.spread(self.scales, self.axis, rank)


def choose(graph: onnx.GraphProto, bits: int, *, per_channel: bool) -> dict[str, Rounding]:
    """By initializer, for every layer whose weight is one; at 8 bits and above no weight is clipped for less
    error. One scale for all channels where these share a few values: they still do so as integers.
    """
    index = Index(graph)
    chosen: dict[str, Rounding] = {}
    for node in graph.node:
        weight = layer_weight(node, index)
        if weight is not None and node.input[1] not in chosen:
            axis = output_axis(node, weight.ndim) if per_channel and not shared(weight) else None
            chosen[node.input[1]] = Rounding(rounding.weight_scales(weight, axis, bits), axis, bits)
    return chosen


def layer_weight(node: onnx.NodeProto, index: Index) -> Floats | None:
    if node.op_type not in LAYERS:
        return None
    tensor = index.initializers.get(node.input[1])
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
        return None
    return index.constant(node.input[1])


def output_axis(node: onnx.NodeProto, rank: int) -> int:
    """The weight's axis of output channels; of a grouped ConvTranspose, output channels of one group."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and walk.attribute(node, "transB", 0)):
        return 0
    return 1 if node.op_type == "ConvTranspose" else rank - 1


def read(graph: onnx.GraphProto) -> list[str]:
    """What the layers read."""
    index = Index(graph)
    return [node.input[0] for node in graph.node if layer_weight(node, index) is not None]
