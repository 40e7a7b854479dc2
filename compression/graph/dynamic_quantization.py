"""Dynamic quantization: ONNX Runtime's quantizer, shown stand-ins for the weights of a large model."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from compression import mapped
from compression.graph import interface, stand_ins, walk
from compression.graph.index import Index
from compression.graph.preparation import add_types
from compression.mapped import Store
from compression.quiet import quiet
from compression.runtime import running

_TRANSPOSED = re.compile(r"_Transposed(_\d+)?$")
"""What the quantizer adds to the name of a Gemm's weight."""
_QUANTIZED, _SCALE = "_quantized", "_scale"
_TINY = np.finfo(np.float32).tiny
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    layers: Collection[str]
    """Operators that are quantized."""
    per_channel: bool
    reduce_range: bool


def quantize(model: onnx.ModelProto, options: Options, scratch: Path) -> onnx.ModelProto:
    """Errors: CompressionError E_MODEL_RUN."""
    source = onnx.ModelProto()
    source.CopyFrom(model)
    extra = {}
    if mapped.size(source):  # shapes of stand-ins do not fit: types must be known
        extra["DefaultTensorType"] = TensorProto.FLOAT
        add_types(source)
    large = stand_ins.exchange(source.graph, _contracted(Index(source.graph), options.layers))
    quantized = _quantize(mapped.loaded(source), options, extra, scratch)
    quantized.graph.ClearField("value_info")
    interface.restore(quantized, model)
    stand_ins.restore(quantized.graph, large)
    _round(quantized.graph, large, options, Store(scratch / "integers"))
    return quantized


def _quantize(
    model: onnx.ModelProto, options: Options, extra: Mapping[str, int], scratch: Path
) -> onnx.ModelProto:
    path = scratch / "dynamic.onnx"
    with quiet(), running("quantize"):
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=list(options.layers),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            weight_type=QuantType.QInt8,
            extra_options=dict(extra),
        )
    quantized = onnx.load(path)
    path.unlink()
    return quantized


def _contracted(index: Index, layers: Collection[str]) -> Callable[[TensorProto], Sequence[int] | None]:
    """Stand-ins of a single row, with as many columns as there are scales."""

    def dims(tensor: TensorProto) -> Sequence[int] | None:
        sizes = [1] * len(tensor.dims)
        for reader in index.consumers[tensor.name]:
            if reader.op_type == "LSTM":
                return None  # its gates are taken apart by the quantizer
            if reader.op_type in layers and reader.input[1] == tensor.name:
                kept = 0 if walk.attribute(reader, "transB", 0) else -1
                sizes[kept] = tensor.dims[kept]
        return sizes

    return dims


def _round(graph: onnx.GraphProto, large: Mapping[str, TensorProto], options: Options, store: Store) -> None:
    """Integers and scales of the weights that were stand-ins, as the quantizer computes them."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in known.items():
        own = name.removesuffix(_QUANTIZED)
        source = large.get(own) or large.get(_TRANSPOSED.sub("", own))
        if source is None or own == name:
            continue
        weight = mapped.array(source)
        rounded, scales = _rounded(weight if own in large else weight.T, options)
        tensor.CopyFrom(store.instead(source, rounded, name))
        scale = known[own + _SCALE]
        scale.CopyFrom(helper.make_tensor(scale.name, scale.data_type, scale.dims, scales.ravel().tolist()))


def _rounded(weight: Floats, options: Options) -> tuple[npt.NDArray[np.int8], Floats]:
    """Scale: largest magnitude / 127, or / 64 in a reduced range; of each column or of all."""
    axes = tuple(range(weight.ndim - 1)) if options.per_channel else None
    bound = np.maximum(weight.max(axes, keepdims=True), -weight.min(axes, keepdims=True)).astype(np.float64)
    scales = (bound / (64 if options.reduce_range else 127)).astype(np.float32)
    scales[scales < _TINY] = 1.0
    steps = np.divide(weight, scales)
    np.rint(steps, out=steps)
    return np.clip(steps, -128, 127, out=steps).astype(np.int8), scales
