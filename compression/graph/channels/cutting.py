"""The cut itself: weights without the removed slices, and every number in the graph that counted them."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from compression.graph import walk
from compression.graph.channels.groups import Channels
from compression.graph.channels.kept import Kept, Mask, Masks, masks
from compression.graph.channels.numbers import REWRITES, Rewriting


def cut(channels: Channels, kept: Kept) -> onnx.ModelProto:
    """The graph without the units that are not kept: the function it had with zeros in their place wherever
    a weight sums over them. Names, inputs and outputs stay.

    Errors: CompressionError `unknown_group`, `empty_group`.
    """
    found = masks(channels, kept)
    model = onnx.ModelProto()
    model.CopyFrom(channels.model)
    rewriting = Rewriting(channels, model, found)
    for tensor in model.graph.initializer:
        _shrink(tensor, found.get(tensor.name, {}))
    for node in list(model.graph.node):
        if not node.domain and node.op_type in REWRITES and rewriting.touches(node):
            REWRITES[node.op_type](rewriting, node)
    rewriting.finish()
    _forget(model.graph, found, rewriting.after)
    return model


def _shrink(tensor: onnx.TensorProto, axes: Mapping[int, Mask]) -> None:
    if axes:
        values = numpy_helper.to_array(tensor)
        for axis, mask in axes.items():
            values = np.compress(mask, values, axis)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _forget(graph: onnx.GraphProto, masks: Masks, after: Mapping[str, tuple[int, ...]]) -> None:
    """Shapes that were stored and hold no longer, and constants nobody reads now."""
    described = [value for value in graph.value_info if value.name not in masks]
    del graph.value_info[:]
    graph.value_info.extend(described)
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, after.get(value.name, ()), strict=False):
            if value.name in masks:
                dim.dim_value = size
    read = {value.name for value in graph.output}.union(*(walk.reads(node) for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
