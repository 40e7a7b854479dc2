"""Tensors of a hostile model: declared sizes against the bytes that are there."""

import math
from collections.abc import Iterator

import onnx
from onnx import TensorProto

from compression.errors import CompressionError, Suggestion
from compression.graph import walk
from compression.graph.tensors import stored_bytes
from compression.validation.limits import MAX_BYTES

_TYPED: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1),
    TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.STRING: ("string_data", 1),
}
"""Where values lie if not in raw_data, and how many for each element; the rest is in int32_data."""
_PACKED: dict[int, int] = {
    TensorProto.INT4: 2,
    TensorProto.UINT4: 2,
    TensorProto.FLOAT4E2M1: 2,
    TensorProto.INT2: 4,
    TensorProto.UINT2: 4,
}
_LARGEST = 2**63 - 1


def every(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All tensors: initializers, constants, those of subgraphs and of functions."""
    for graph in walk.graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _all_nodes(model):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            ):
                yield from (sparse.values, sparse.indices)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from walk.nodes(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            for inner in walk.subgraphs(node):
                yield from walk.nodes(inner)


def check(model: onnx.ModelProto) -> None:
    """Errors: CompressionError `invalid_onnx`, `limit_decoded_bytes`."""
    total = 0
    for tensor in every(model):
        size = declared_bytes(tensor)
        total += size
        if total > MAX_BYTES:
            raise _too_many_bytes("weights")
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_inline(tensor, size)
    for graph in walk.graphs(model.graph):
        for sparse in graph.sparse_initializer:
            total += elements(sparse.dims, sparse.values.name) * 8
    if total > MAX_BYTES:
        raise _too_many_bytes("sparse weights")


def _too_many_bytes(what: str) -> CompressionError:
    way = "store the weights in 16 bits before the upload, or split the model in two"
    detail = f"the {what} take more than {MAX_BYTES} bytes, all that one ONNX file holds (protobuf's 2 GiB)"
    return CompressionError("limit_decoded_bytes", detail, suggestions=(Suggestion(way),))


def elements(dims: object, name: str) -> int:
    sizes = list(dims)  # type: ignore[call-overload]
    if any(size < 0 for size in sizes) or math.prod(size for size in sizes if size) > _LARGEST:
        raise CompressionError("invalid_onnx", f"tensor {name!r} has an impossible shape")
    return math.prod(sizes)


def declared_bytes(tensor: TensorProto) -> int:
    """Errors: CompressionError `invalid_onnx`."""
    count = elements(tensor.dims, tensor.name)
    if tensor.data_type == TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    try:
        return stored_bytes(tensor.data_type, [count])
    except (KeyError, TypeError, ValueError):
        raise CompressionError("invalid_onnx", f"tensor {tensor.name!r} is of no known type") from None


def _check_inline(tensor: TensorProto, size: int) -> None:
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        have, want = len(tensor.raw_data), size
    else:
        field, per_element = _TYPED.get(tensor.data_type, ("int32_data", 1))
        have = len(getattr(tensor, field))
        want = -(-elements(tensor.dims, tensor.name) * per_element // _PACKED.get(tensor.data_type, 1))
    if have != want:
        raise mismatch(tensor)


def mismatch(tensor: TensorProto) -> CompressionError:
    declared = list(tensor.dims)[:8]
    return CompressionError(
        "invalid_onnx", f"tensor {tensor.name!r} declares {declared} but holds other than that many values"
    )
