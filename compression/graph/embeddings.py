"""Embedding tables stored as int8, a scale for each row: the rows that are looked up are restored, the table
never is.
"""

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression import mapped
from compression.graph import walk
from compression.graph.index import Index
from compression.kernels import rounding
from compression.mapped import Store

FEWEST = 1024
"""Elements of a table that is stored so: the nodes that restore its rows take some hundred bytes."""
BITS = 8


def tables(graph: onnx.GraphProto, exclude: Collection[str]) -> list[str]:
    """Matrices of floats that are only looked up in, by row; `exclude` names nodes or their outputs."""
    index = Index(graph)
    return [
        tensor.name
        for tensor in graph.initializer
        if _is_table(tensor)
        and (readers := index.consumers.get(tensor.name))
        and all(_looks_up(node, tensor.name, exclude) for node in readers)
        and tensor.name not in index.outputs
    ]


def store(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """In place. Nodes are added at the end: sort the graph afterwards."""
    index = Index(graph)
    for name in names:
        tensor = index.initializers[name]
        table = mapped.array(tensor)
        scales = rounding.weight_scales(table, 0, BITS, minimise=False)
        integers = rounding.quantize_weight(table, scales, 0, BITS)
        graph.initializer.append(Store.beside(tensor).instead(tensor, integers, f"{name}_int8"))
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(scales.reshape(-1, 1), f"{name}_scale"))
        for node in index.consumers[name]:
            graph.node.extend(_restoring(node, name))


def _is_table(tensor: onnx.TensorProto) -> bool:
    matrix = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    return matrix and bool(np.prod(tensor.dims) >= FEWEST)


def _looks_up(node: onnx.NodeProto, table: str, exclude: Collection[str]) -> bool:
    by_row = node.op_type == "Gather" and walk.attribute(node, "axis", 0) == 0
    return by_row and node.input[0] == table and not {node.name, *node.output} & set(exclude)


def _restoring(look_up: onnx.NodeProto, table: str) -> Iterator[onnx.NodeProto]:
    """Makes the node look up integers, and gives those that turn them into what it gave before."""
    rows, ids = look_up.output[0], look_up.input[1]
    look_up.input[0], look_up.output[0] = f"{table}_int8", f"{rows}_stored"
    cast, scale = f"{rows}_stored_cast", f"{rows}_stored_scale"
    yield helper.make_node("Cast", [f"{rows}_stored"], [cast], cast, to=TensorProto.FLOAT)
    yield helper.make_node("Gather", [f"{table}_scale", ids], [scale], scale)
    yield helper.make_node("Mul", [cast, scale], [rows], f"{rows}_stored_restore")
