"""Writes QuantizeLinear / DequantizeLinear nodes; ONNX Runtime's own quantizer places them, as its kernels
want them.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from compression.graph import large_weights
from compression.graph.index import Index
from compression.graph.weight_rounding import Rounding, layer_weight
from compression.kernels.ranges import Range
from compression.kernels.rounding import Grid, grid

BYTE = 255
EIGHT = 8
OPERATORS = frozenset(
    {
        *("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Relu", "Clip", "LeakyRelu", "Sigmoid"),
        *("GlobalAveragePool", "AveragePool", "MaxPool", "Resize"),
        *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
    }
)
"""What ONNX Runtime computes in int8 on a CPU."""
WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
SAME_RANGE = frozenset(
    {"MaxPool", "AveragePool", "Resize", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
)
"""Their output is on the grid of their input."""
REMOVABLE = frozenset({"Relu", "Clip"})
"""Activations that saturation to the range replaces."""
FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})
"""Kernels that may write floats: as the last layer they need not be rounded."""


@dataclass(frozen=True)
class Scheme:
    """How numbers are stored."""

    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    symmetric_activations: bool = False

    def grid(self, to: Range) -> Grid:
        return grid(*to, self.activation_bits, symmetric=self.symmetric_activations)


def quantizable(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that can be computed in int8: layers whose weight is at hand, and what lies between."""
    index = Index(graph)
    floats = _floats(graph)
    return [node for node in graph.node if node.op_type in OPERATORS and _fits(node, index, floats)]


def _floats(graph: onnx.GraphProto) -> set[str]:
    values = [*graph.value_info, *graph.input, *graph.output]
    typed = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return typed | {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}


def _fits(node: onnx.NodeProto, index: Index, floats: set[str]) -> bool:
    if node.input[0] not in floats or node.output[0] not in floats:
        return False
    if node.op_type in WEIGHTED:
        weight = index.constant(node.input[1])
        bias_known = len(node.input) < 3 or node.input[2] in index.initializers
        return (
            weight is not None and weight.ndim >= 2 and node.input[0] not in index.initializers and bias_known
        )
    return node.op_type not in {"Add", "Mul", "Concat"} or not set(node.input) & set(index.initializers)


def activations(graph: onnx.GraphProto, nodes: Collection[str]) -> list[str]:
    """Tensors whose range the writer needs: what the named nodes read and write, less what a following
    activation limits anyway and what shares the grid of another.
    """
    index = Index(graph)
    wanted: dict[str, None] = {}
    for node in graph.node:
        if node.name not in nodes:
            continue
        count = 1 if node.op_type in WEIGHTED | SAME_RANGE else len(node.input)
        names = [name for name in node.input[:count] if name and name not in index.initializers]
        outputs = [] if node.op_type in SAME_RANGE else list(node.output)
        wanted |= dict.fromkeys(name for name in (*names, *outputs) if _limit(name, index, nodes) is None)
    return list(wanted)


def _limit(name: str, index: Index, nodes: Collection[str]) -> onnx.NodeProto | None:
    """The activation that alone reads the tensor and will be expressed by its range."""
    consumer = index.only_consumer(name)
    producer = index.producer.get(name)
    if (
        consumer is None
        or producer is None
        or consumer.op_type not in REMOVABLE
        or producer.name not in nodes
    ):
        return None
    return consumer if consumer.name in nodes else None


def limits(graph: onnx.GraphProto) -> dict[str, Range]:
    """Of the outputs of activations that the writer may leave out."""
    index = Index(graph)
    found = {}
    for node in graph.node:
        if node.op_type == "Relu":
            found[node.output[0]] = Range(0.0, math.inf)
        elif node.op_type == "Clip":
            low, high = (index.scalar(name) for name in (*node.input[1:], "", "")[:2])
            found[node.output[0]] = Range(
                -math.inf if low is None else low, math.inf if high is None else high
            )
    return found


def write(
    model: onnx.ModelProto,
    nodes: Collection[str],
    ranges: Mapping[str, Range],
    roundings: Mapping[str, Rounding],
    scheme: Scheme,
    *,
    trainable: bool = False,
) -> onnx.ModelProto:
    """The model with the named nodes quantized; the others stay as they are. Made `trainable`, weights and
    biases are in floating point, weights behind a QuantizeLinear of their own, and no integer is limited to
    fewer than 8 bits.
    """
    source = onnx.ModelProto()
    source.CopyFrom(model)
    if not nodes:
        return source
    large: Mapping[str, onnx.TensorProto] = {}
    if not trainable:
        large = large_weights.hide(source.graph, _rounded(source.graph, nodes), roundings)
        _round_weights(source.graph, nodes, roundings)
    add_infer_metadata(source)
    grids = _grids(source.graph, nodes, ranges, scheme)
    quantizer = QDQQuantizer(
        source,
        per_channel=scheme.per_channel,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {name: _pair(on) for name, on in grids.items()}),
        nodes_to_quantize=sorted(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(OPERATORS),
        extra_options={
            "TensorQuantOverrides": {name: _exact(on) for name, on in grids.items()}
            | _overrides(source.graph, nodes, roundings),
            "QDQKeepRemovableActivations": scheme.symmetric_activations,
            "AddQDQPairToWeight": trainable,
            "QuantizeBias": not trainable,
        },
    )
    quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    large_weights.show(written.graph, large, roundings)
    _finish(written, model, nodes)
    if scheme.activation_bits < EIGHT and not trainable:
        _saturate(written.graph, 2**scheme.activation_bits - 1)
    return written


def _grids(
    graph: onnx.GraphProto, nodes: Collection[str], ranges: Mapping[str, Range], scheme: Scheme
) -> dict[str, Grid]:
    """Of every tensor the quantizer may ask for."""
    index = Index(graph)
    grids = {}
    for name, to in ranges.items():
        grids[name] = scheme.grid(to)
        producer = index.producer.get(name)
        while producer is not None and producer.op_type in REMOVABLE and producer.name in nodes:
            grids.setdefault(producer.input[0], grids[name])
            producer = index.producer.get(producer.input[0])
    return grids


def _pair(on: Grid) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A range wide enough for 255 steps."""
    return np.array([on.low], np.float32), np.array([on.low + BYTE * on.scale], np.float32)


def _overrides(
    graph: onnx.GraphProto, nodes: Collection[str], roundings: Mapping[str, Rounding]
) -> dict[str, list[dict[str, Any]]]:
    """Scales of the weights."""
    return {name: _override(roundings[name]) for name in _rounded(graph, nodes)}


def _rounded(graph: onnx.GraphProto, nodes: Collection[str]) -> list[str]:
    """The weights of layers that are quantized."""
    return [node.input[1] for node in graph.node if node.name in nodes and node.op_type in WEIGHTED]


def _exact(on: Grid) -> list[dict[str, Any]]:
    """Scale and zero point as they are, which the quantizer would otherwise compute from float32 extremes."""
    scale, zero_point = np.array(on.scale, np.float32), np.array(on.zero_point, np.uint8)
    return [{"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}]


def _round_weights(graph: onnx.GraphProto, nodes: Collection[str], roundings: Mapping[str, Rounding]) -> None:
    """The quantizer saturates at 127; what is cut off before is decided here."""
    index = Index(graph)
    for node in graph.node:
        weight = layer_weight(node, index) if node.name in nodes and node.op_type in WEIGHTED else None
        if weight is not None:
            index.replace(node.input[1], roundings[node.input[1]].round_trip(weight))


def _override(how: Rounding) -> list[dict[str, Any]]:
    first = {} if how.axis is None else {"axis": how.axis}
    fixed = {"quant_type": QuantType.QInt8, "zero_point": np.array(0, np.int8)}
    return [fixed | first | {"scale": scale} for scale in how.scales]


def _finish(written: onnx.ModelProto, model: onnx.ModelProto, nodes: Collection[str]) -> None:
    """Takes back what the quantizer notes of itself, and the rounding of layers whose kernel can write the
    floats that all its readers want.
    """
    written.ClearField("metadata_props")
    written.metadata_props.extend(model.metadata_props)
    written.producer_name, written.producer_version = model.producer_name, model.producer_version
    index = Index(written.graph)
    for layer in [node for node in written.graph.node if node.name in nodes and node.op_type in FLOAT_OUTPUT]:
        quantize = index.only_consumer(layer.output[0])
        dequantize = index.only_consumer(quantize.output[0]) if quantize is not None else None
        if quantize is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        readers = index.consumers[dequantize.output[0]]
        if not any(reader.name in nodes for reader in readers):
            _write_floats(layer, readers, dequantize.output[0], index)
            written.graph.node.remove(dequantize)
            written.graph.node.remove(quantize)


def _write_floats(
    layer: onnx.NodeProto, readers: Collection[onnx.NodeProto], restored: str, index: Index
) -> None:
    if restored in index.outputs:
        layer.output[0], name = restored, restored
    else:
        name = layer.output[0]
    for reader in readers:
        reader.input[:] = [name if one == restored else one for one in reader.input]


def _saturate(graph: onnx.GraphProto, levels: int) -> None:
    """Fewer than 8 bits are the first levels of a byte, which itself would saturate only at 255."""
    index = Index(graph)
    nodes = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero_point = index.scalar(node.input[1]), index.scalar(node.input[2])
            if scale is not None and zero_point is not None:
                nodes.append(_clip(graph, node, -zero_point * scale, (levels - zero_point) * scale))
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _clip(graph: onnx.GraphProto, quantize: onnx.NodeProto, low: float, high: float) -> onnx.NodeProto:
    source, limited = quantize.input[0], f"{quantize.output[0]}_limited"
    bounds = [f"{limited}_low", f"{limited}_high"]
    for name, value in zip(bounds, (low, high), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    quantize.input[0] = limited
    return helper.make_node("Clip", [source, *bounds], [limited], name=limited)
