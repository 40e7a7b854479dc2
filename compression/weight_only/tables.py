"""Tables that a network looks rows up in, as int8 with a scale for each row: only rows that are looked up are
restored. Standard operators, which every runtime has.
"""

from collections.abc import Collection

import onnx
from onnx import TensorProto, helper, numpy_helper

from compression.graph import walk
from compression.graph.index import Index
from compression.kernels import rounding
from compression.weight_only.matrices import FEWEST, Matrix

BITS = 8


def quantize(graph: onnx.GraphProto, excluded: Collection[str]) -> list[str]:
    """In place, the float32 tables [rows, width] that nothing but Gather of rows reads; their names."""
    index = Index(graph)
    found = [name for name in index.initializers if _is_table(name, index) and name not in excluded]
    for name in found:
        table = numpy_helper.to_array(index.initializers[name])
        scales = rounding.weight_scales(table, 0, BITS)
        integers = rounding.quantize_weight(table, scales, 0, BITS)
        names = f"{name}_int8", f"{name}_row_scales"
        graph.initializer.append(numpy_helper.from_array(integers, names[0]))
        graph.initializer.append(numpy_helper.from_array(scales[:, None], names[1]))
        for node in index.consumers[name]:
            _restore(graph, node, *names)
    return found


def _is_table(name: str, index: Index) -> bool:
    tensor, readers = index.initializers[name], index.consumers[name]
    plain = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    return (
        plain
        and bool(readers)
        and name not in index.outputs
        and tensor.dims[0] * tensor.dims[1] >= FEWEST
        and all(_looks_up(node, name) for node in readers)
    )


def lookups(matrix: Matrix, index: Index, block: int) -> list[onnx.NodeProto]:
    """The Gathers of rows of a table that is this matrix too; none where anything else reads it, or rows are
    no whole blocks.
    """
    if not matrix.table or matrix.table in index.outputs or matrix.weight.shape[1] % block:
        return []
    readers = index.consumers[matrix.table]
    found = [node for node in readers if _looks_up(node, matrix.table)]
    others = [node for node in readers if not _looks_up(node, matrix.table)]
    turned = index.producer.get(matrix.node.input[1])
    if turned is not None and others == [turned]:
        others = index.consumers[turned.output[0]]
    return found if others == [matrix.node] else []


def _looks_up(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type == "Gather" and node.input[0] == name and walk.attribute(node, "axis", 0) in {0, -2}


def _restore(graph: onnx.GraphProto, node: onnx.NodeProto, integers: str, scales: str) -> None:
    made, rows = node.output[0], node.input[1]
    nodes = [
        helper.make_node("Gather", [integers, rows], [f"{made}_int8"], node.name),
        helper.make_node("Cast", [f"{made}_int8"], [f"{made}_cast"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, rows], [f"{made}_scales"]),
        helper.make_node("Mul", [f"{made}_cast", f"{made}_scales"], [made]),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for at, new in enumerate(nodes):
        graph.node.insert(place + at, new)
