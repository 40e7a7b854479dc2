"""Integers that Pare stores so that ONNX Runtime folds them, put back as DequantizeLinear of int8."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression.graph import packing
from compression.graph.index import Index


def restore(graph: onnx.GraphProto) -> None:
    """In place: packed integers get a byte each, integers behind Cast and Mul a DequantizeLinear."""
    whole = {tensor.name: tensor for _, tensor in packing.unpacked(graph) if tensor is not None}
    nodes = [node for node in graph.node if node.output[0] not in whole]
    graph.initializer.extend(whole.values())
    index = Index(graph)
    kept = [
        onnx.NodeProto.FromString((_dequantize(node, index) or node).SerializeToString()) for node in nodes
    ]
    del graph.node[:]
    graph.node.extend(kept)


def _dequantize(node: onnx.NodeProto, index: Index) -> onnx.NodeProto | None:
    """For a Mul of int8, cast to floats, and scales along one axis; see compression.graph.storage."""
    cast = index.producer.get(node.input[0]) if node.op_type == "Mul" else None
    scale = index.initializers.get(node.input[1]) if cast is not None else None
    if cast is None or cast.op_type != "Cast" or scale is None:
        return None
    stored = index.initializers.get(cast.input[0])
    axes = [axis for axis, size in enumerate(scale.dims) if size != 1]
    if stored is None or stored.data_type != TensorProto.INT8 or len(axes) > 1:
        return None
    scales = numpy_helper.to_array(scale).reshape(-1 if axes else ())
    name = f"{node.output[0]}_scales"
    index.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(scales), name))
    inputs = [cast.input[0], name]
    return helper.make_node(
        "DequantizeLinear", inputs, list(node.output), node.name, axis=axes[0] if axes else 0
    )
