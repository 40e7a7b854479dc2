"""Attention as one operator (opset 23): whole heads."""

from typing import cast

import onnx

from compression.graph import walk
from compression.graph.channels.rules.convolution import spread
from compression.graph.channels.tracer import Tracer, rule


@rule("Attention")
def _attention(trace: Tracer, node: onnx.NodeProto) -> None:
    """Heads of K and V serve one or several of Q (grouped queries): one unit is a head of K with its
    queries.
    """
    q, k, v = node.input[:3]
    y = node.output[0]
    trace.freeze(*filter(None, (*node.input[3:], *node.output[1:])))
    flat = len(trace.shape(q)) == 3
    heads = cast("int", walk.attribute(node, "kv_num_heads")) if flat else trace.shape(k)[1]
    at = 2 if flat else 1
    for name in (q, k, v, y):
        trace.freeze_axis(name, *(axis for axis in range(len(trace.shape(name))) if axis != at))
    unit = trace.slices.take(heads)
    for name in (q, k, v, y):
        ids = trace.axes(name)[at]
        trace.slices.join(ids, spread(unit, len(ids)))
