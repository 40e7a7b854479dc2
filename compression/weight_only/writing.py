"""Nodes that compute from rounded matrices, in place of those that compute from floats."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from compression.graph import inspection, walk
from compression.kernels.blocks import Blocks, packed
from compression.runtime import running
from compression.weight_only.matrices import Matrix

DOMAIN = "com.microsoft"
Values = dict[str, npt.NDArray[Any]]
LEVEL_OF_8_BITS = 4
"""Where the kernel would choose: it chooses one that runs at a fraction of the float speed."""
BLOCKED_OPSET, BLOCKED_IR = 21, 10
"""From which there are 4-bit integers and DequantizeLinear of blocks."""


def multiply(graph: onnx.GraphProto, matrix: Matrix, found: Blocks, bits: int, accuracy_level: int) -> None:
    """In place, by a MatMulNBits of ONNX Runtime."""
    made = matrix.node.output[0]
    values: Values = {
        f"{made}_weight_{bits}bit": packed(found.integers, bits),
        f"{made}_weight_scales": found.scales.reshape(-1),
        f"{made}_weight_zero_points": packed(found.zero_points, bits).reshape(-1),
    }
    _store(graph, values)
    _put(graph, matrix.node, [_product(matrix, list(values), found, bits, accuracy_level)])


def restore(graph: onnx.GraphProto, matrix: Matrix, found: Blocks, bits: int) -> None:
    """In place, by a MatMul of what a DequantizeLinear gives: standard operators (`raised`)."""
    made, inputs = matrix.node.output[0], matrix.weight.shape[1]
    integers = found.integers.reshape(len(found.integers), -1)[:, :inputs]
    names = [f"{made}_weight_{part}" for part in (f"{bits}bit", "scales", "zero_points")]
    graph.initializer.append(_unsigned(names[0], integers.T, bits))
    _store(graph, {names[1]: found.scales.T})
    graph.initializer.append(_unsigned(names[2], found.zero_points.T, bits))
    block = found.integers.shape[-1]
    weight = helper.make_node("DequantizeLinear", names, [f"{made}_weight"], axis=0, block_size=block)
    node = matrix.node
    product = helper.make_node("MatMul", [node.input[0], weight.output[0]], [_result(node)], node.name)
    _put(graph, node, [weight, product])


def share(
    graph: onnx.GraphProto,
    matrix: Matrix,
    lookups: Sequence[onnx.NodeProto],
    rounded: tuple[Blocks, int],
    accuracy_level: int,
) -> None:
    """In place, of a table that rows are looked up in as well: GatherBlockQuantized of ONNX Runtime reads
    what MatMulNBits reads. `rounded`: blocks, and their bits.
    """
    found, bits = rounded
    rows, count, block = found.integers.shape
    stem = matrix.table
    values: Values = {
        f"{stem}_{bits}bit": packed(found.integers, bits).reshape(rows, -1),
        f"{stem}_scales": found.scales,
        f"{stem}_zero_points": packed(found.zero_points, bits),
        f"{stem}_blocks": np.array([rows, count, -1]),
    }
    _store(graph, values)
    integers, scales, zeros, shape = values
    for node in lookups:
        looked_up = helper.make_node(
            "GatherBlockQuantized",
            [integers, node.input[1], scales, zeros],
            list(node.output),
            node.name,
            domain=DOMAIN,
            bits=bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        graph.node[list(graph.node).index(node)].CopyFrom(looked_up)
    blocked = helper.make_node("Reshape", [integers, shape], [f"{integers}_blocks"])
    operands = [blocked.output[0], scales, zeros]
    _put(graph, matrix.node, [blocked, _product(matrix, operands, found, bits, accuracy_level)])


def _product(
    matrix: Matrix, operands: Sequence[str], found: Blocks, bits: int, accuracy_level: int
) -> onnx.NodeProto:
    outputs, inputs = matrix.weight.shape
    return helper.make_node(
        "MatMulNBits",
        [matrix.source, *operands],
        [_result(matrix.node)],
        matrix.node.name,
        domain=DOMAIN,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=found.integers.shape[-1],
        accuracy_level=accuracy_level or (LEVEL_OF_8_BITS if bits == 8 else 0),
    )


def _result(node: onnx.NodeProto) -> str:
    """Of the product alone: a Gemm's bias is added afterwards."""
    return f"{node.output[0]}_product" if _bias(node) else node.output[0]


def _bias(node: onnx.NodeProto) -> str:
    return node.input[2] if len(node.input) > 2 else ""


def _put(graph: onnx.GraphProto, node: onnx.NodeProto, instead: Sequence[onnx.NodeProto]) -> None:
    """The last of these in place of the node, the others before it, its bias behind it."""
    place = list(graph.node).index(node)
    if _bias(node):
        graph.node.insert(place + 1, helper.make_node("Add", [_result(node), _bias(node)], [node.output[0]]))
    *before, last = instead
    graph.node[place].CopyFrom(last)
    for at, one in enumerate(before):
        graph.node.insert(place + at, one)


def _store(graph: onnx.GraphProto, values: Values) -> None:
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()
    )


def _unsigned(name: str, values: npt.NDArray[np.uint8], bits: int) -> onnx.TensorProto:
    """ONNX packs a whole tensor, not each of its rows."""
    kind = TensorProto.UINT4 if bits == 4 else TensorProto.UINT8
    raw = packed(np.ascontiguousarray(values).reshape(-1), bits).tobytes()
    return helper.make_tensor(name, kind, values.shape, raw, raw=True)


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """With an opset that `restore` can be written in.

    Errors: CompressionError E_MODEL_RUN.
    """
    if inspection.opset(model) < BLOCKED_OPSET:
        with running("convert"):
            model = version_converter.convert_version(model, BLOCKED_OPSET)
    model.ir_version = max(model.ir_version, BLOCKED_IR)
    return model


def clean(model: onnx.ModelProto) -> None:
    """Drops Transposes and initializers that nothing reads any more, and declares the domain that is used."""
    graph = model.graph
    for node in list(graph.node)[::-1]:
        if node.op_type == "Transpose" and node.output[0] not in _read(graph):
            graph.node.remove(node)
    read = _read(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    used = any(node.domain == DOMAIN for node in graph.node)
    if used and all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _read(graph: onnx.GraphProto) -> set[str]:
    return {value.name for value in graph.output}.union(*(walk.reads(node) for node in graph.node))
