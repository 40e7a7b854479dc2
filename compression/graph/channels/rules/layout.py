"""The same elements in another shape or order."""

from typing import cast

import onnx

from compression.graph import walk
from compression.graph.channels.tracer import Tracer, rule


@rule("Reshape", "Flatten", "Unsqueeze")
def _reshape(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.regroup(node.input[0], node.output[0])


@rule("Squeeze")
def _squeeze(trace: Tracer, node: onnx.NodeProto) -> None:
    """Without axes, one that is cut down to a single slice would go too."""
    named = len(node.input) > 1 or walk.attribute(node, "axes") is not None
    if named:
        trace.regroup(node.input[0], node.output[0])
    else:
        trace.freeze(node.input[0], node.output[0])


@rule("Transpose")
def _transpose(trace: Tracer, node: onnx.NodeProto) -> None:
    x, y = trace.axes(node.input[0]), trace.axes(node.output[0])
    order = cast("list[int]", walk.attribute(node, "perm", list(reversed(range(len(x))))))
    for position, axis in enumerate(order):
        trace.join(x[axis], y[position])


@rule("Shape", "Size", "ConstantOfShape")
def _shape(trace: Tracer, node: onnx.NodeProto) -> None:
    """Numbers of slices, not slices: `extents` looks after them."""
    if node.op_type == "Size":
        trace.freeze(node.input[0])
