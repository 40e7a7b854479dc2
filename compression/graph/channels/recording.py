"""What one sample shows of a graph: the shape of every tensor."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from compression import runtime

_NUMBERS: Mapping[int, type] = {
    AttributeProto.INT: np.int64,
    AttributeProto.INTS: np.int64,
    AttributeProto.FLOAT: np.float32,
    AttributeProto.FLOATS: np.float32,
}
AT_ONCE = 64
"""Tensors fetched in one run, which bounds the memory."""


def hoisted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose Constant nodes are initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        tensor = _constant(node) if node.op_type == "Constant" and not node.domain else None
        if tensor is None:
            copy.graph.node.append(node)
        else:
            tensor.name = node.output[0]
            copy.graph.initializer.append(tensor)
    return copy


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        return tensor
    dtype = _NUMBERS.get(attribute.type)
    return None if dtype is None else numpy_helper.from_array(np.array(value, dtype))


def shapes(model: onnx.ModelProto, feeds: Mapping[str, runtime.Array]) -> dict[str, tuple[int, ...]]:
    """Of every tensor that the sample reaches, initializers included; what is no tensor is absent.

    Errors: CompressionError E_MODEL_RUN.
    """
    graph = model.graph
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    known |= {name: value.shape for name, value in feeds.items()}
    names = list(dict.fromkeys(name for node in graph.node for name in node.output if name))
    seen = {value.name for value in graph.output}
    opened = onnx.ModelProto()
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in seen)
    # Protobuf messages merge when their bytes are joined: outputs are added without parsing the weights.
    session = runtime.session(model.SerializeToString() + opened.SerializeToString(), optimise=False)
    for start in range(0, len(names), AT_ONCE):
        for name, value in runtime.run(session, feeds, names[start : start + AT_ONCE]).items():
            if isinstance(value, np.ndarray):
                known[name] = value.shape
    return known
