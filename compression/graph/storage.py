"""Weights of layers that compute in floats, stored as integers.

ONNX Runtime leaves DequantizeLinear of a constant to run time, where it costs more than it saves. It folds
Cast and Mul of constants when a session is made: so stored, a layer takes a quarter of the file and runs
exactly as fast as before.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression import mapped
from compression.graph.index import Index
from compression.graph.weight_rounding import FEWEST, Rounding, layer_weight
from compression.mapped import Store


def store(graph: onnx.GraphProto, roundings: Mapping[str, Rounding]) -> list[str]:
    """Replaces, in place, the float weights that only layers read; returns the names of those layers."""
    index = Index(graph)
    stored, nodes = [], []
    for name, readers in list(storable(graph, roundings)):
        nodes += _restoring(name)
        _replace(graph, index, name, roundings[name])
        stored += [node.name for node in readers]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return stored


def storable(
    graph: onnx.GraphProto, roundings: Mapping[str, Rounding]
) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Float weights that only layers read, large enough to be worth it, with those layers."""
    index = Index(graph)
    for name in roundings:
        readers = index.consumers[name] if name in index.initializers else []
        weight = layer_weight(readers[0], index) if readers else None
        if weight is not None and weight.size >= FEWEST and all(node.input[1] == name for node in readers):
            yield name, readers


def _restoring(name: str) -> list[onnx.NodeProto]:
    cast = helper.make_node(
        "Cast", [f"{name}_int8"], [f"{name}_cast"], name=f"{name}_cast", to=TensorProto.FLOAT
    )
    return [cast, helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name], name=f"{name}_restore")]


def _replace(graph: onnx.GraphProto, index: Index, name: str, how: Rounding) -> None:
    tensor = index.initializers[name]
    weight = mapped.array(tensor)
    graph.initializer.append(Store.beside(tensor).instead(tensor, how.integers(weight), f"{name}_int8"))
    graph.initializer.remove(tensor)
    scale = np.ascontiguousarray(how.spread(weight.ndim))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
