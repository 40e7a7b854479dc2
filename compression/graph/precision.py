"""Bits of each layer: which of them are rounded how, and which are stored as halves."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from compression import mapped
from compression.graph import weight_rounding
from compression.graph.index import Index
from compression.graph.weight_rounding import Rounding
from compression.kernels import rounding
from compression.mapped import Store

HALF, FLOAT = 16, 32


def roundings(
    graph: onnx.GraphProto, chosen: Mapping[str, Rounding], bits: Mapping[str, int]
) -> dict[str, Rounding]:
    """Of the weights of layers (by name of the node) that get fewer bits than 16; others as chosen."""
    index = Index(graph)
    found = dict(chosen)
    for node in graph.node:
        weight = weight_rounding.layer_weight(node, index) if node.name in bits else None
        if weight is None:
            continue
        name, own = node.input[1], bits[node.name]
        if own >= HALF:
            del found[name]
        elif own != found[name].bits:
            axis = found[name].axis
            found[name] = Rounding(rounding.weight_scales(weight, axis, own), axis, own)
    return found


def halves(graph: onnx.GraphProto, bits: Mapping[str, int]) -> tuple[str, ...]:
    """Weights of the layers that get 16 bits."""
    return tuple(node.input[1] for node in graph.node if bits.get(node.name) == HALF)


def store_halves(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """In place, as float16 and a Cast, which ONNX Runtime folds when a session is made: layers compute in
    float32 as before. Nodes are added at the end: sort the graph afterwards.
    """
    index = Index(graph)
    for name in names:
        tensor = index.initializers[name]
        weight = mapped.array(tensor)
        largest = float(np.finfo(np.float16).max)
        half = np.clip(weight, -largest, largest).astype(np.float16)
        graph.initializer.append(Store.beside(tensor).instead(tensor, half, f"{name}_half"))
        graph.initializer.remove(tensor)
        graph.node.append(
            helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_float", to=TensorProto.FLOAT)
        )
