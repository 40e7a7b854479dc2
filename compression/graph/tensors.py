"""Types and sizes of tensors as ONNX declares them."""

import math
from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from compression.inspection import TensorSpec

SUB_BYTE: dict[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
}
HALF = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE}) | HALF


def dtype_name(elem_type: int) -> str:
    return "string" if elem_type == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(elem_type).name


def bits(elem_type: int) -> int:
    """Of one element as stored."""
    return SUB_BYTE.get(elem_type) or helper.tensor_dtype_to_np_dtype(elem_type).itemsize * 8


def stored_bytes(elem_type: int, dims: Iterable[int]) -> int:
    return -(-math.prod(dims) * bits(elem_type) // 8)


def spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(_axis(dim) for dim in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=dtype_name(tensor.elem_type), shape=shape)


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) if dim.dim_param else None


def inputs(graph: onnx.GraphProto) -> tuple[TensorSpec, ...]:
    """What a caller feeds: graph inputs that no initializer fills."""
    filled = {tensor.name for tensor in graph.initializer}
    return tuple(spec(value) for value in graph.input if value.name not in filled)


def outputs(graph: onnx.GraphProto) -> tuple[TensorSpec, ...]:
    return tuple(spec(value) for value in graph.output)
