"""Integers of 2 or 4 bits, several to a byte.

ONNX Runtime computes in no type that small on a CPU, and restores a DequantizeLinear of INT4 on every run. It
folds a table look-up of constants when a session is made: so packed, a layer takes half the file or less and
runs as int8 does.
"""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression import mapped
from compression.graph.index import Array, Index

FEWEST = 1024
"""Elements of a tensor that is packed: the nodes that unpack it take some hundred bytes."""
_TABLE = "packed_{width}_bits"


def width(bits: int) -> int | None:
    """Of a number as packed; None where it takes its byte."""
    return {2: 2, 3: 4, 4: 4}.get(bits)


def pack(graph: onnx.GraphProto, bits: int) -> None:
    """Replaces, in place, the int8 matrices and kernels whose values need no more than so many bits."""
    wide = width(bits)
    if wide is None:
        return
    chosen = [tensor for tensor in graph.initializer if _packable(tensor, 8 // wide) and _fits(tensor, wide)]
    for tensor in chosen:
        graph.initializer.remove(tensor)
        _place(graph, tensor.name, mapped.array(tensor), wide)
    if chosen:
        graph.initializer.append(numpy_helper.from_array(_table(wide), _TABLE.format(width=wide)))


def unpacked(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto | None]]:
    """Names of the initializers that packing made, each with the tensor it stands for; of the table none."""
    tables = {_TABLE.format(width=wide): wide for wide in (2, 4)}
    present = tables.keys() & {tensor.name for tensor in graph.initializer}
    index = Index(graph)
    for name in sorted(present):
        yield name, None
        for gather in index.consumers[name]:
            cast, reshape = index.producer[gather.input[1]], index.consumers[gather.output[0]][0]
            packed, shape = index.constant(cast.input[0]), index.constant(reshape.input[1])
            if packed is not None and shape is not None:
                whole = _table(tables[name])[packed].reshape(shape)
                yield cast.input[0], numpy_helper.from_array(whole, reshape.output[0])


def _packable(tensor: onnx.TensorProto, per_byte: int) -> bool:
    size = math.prod(tensor.dims)
    return (
        tensor.data_type == TensorProto.INT8
        and len(tensor.dims) > 1
        and size >= FEWEST
        and not size % per_byte
    )


def _fits(tensor: onnx.TensorProto, wide: int) -> bool:
    values = mapped.array(tensor)
    return bool(-(2 ** (wide - 1)) <= values.min() and values.max() < 2 ** (wide - 1))


def _table(wide: int) -> Array:
    """Of each byte the numbers in it."""
    unsigned = (np.arange(256)[:, None] >> _shifts(wide)) & (2**wide - 1)
    table: Array = (unsigned - 2 ** (wide - 1)).astype(np.int8)
    return table


def _shifts(wide: int) -> Array:
    return np.arange(8 - wide, -1, -wide)


def _place(graph: onnx.GraphProto, name: str, values: Array, wide: int) -> None:
    unsigned = values.reshape(-1, 8 // wide).astype(np.int64) + 2 ** (wide - 1)
    packed_values = (unsigned << _shifts(wide)).sum(1).astype(np.uint8)
    stored = {f"{name}_packed": packed_values, f"{name}_shape": np.array(values.shape)}
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in stored.items())
    packed, shape = stored
    nodes = [
        helper.make_node("Cast", [packed], [f"{name}_bytes"], f"{name}_bytes", to=TensorProto.INT32),
        helper.make_node(
            "Gather", [_TABLE.format(width=wide), f"{name}_bytes"], [f"{name}_rows"], f"{name}_rows"
        ),
        helper.make_node("Reshape", [f"{name}_rows", shape], [name], f"{name}_unpack"),
    ]
    graph.node.extend(nodes)
