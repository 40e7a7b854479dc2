"""Normalisations and reductions. What is averaged over must stay: a removed slice would change it for
all.
"""

from typing import cast

import numpy as np
import onnx

from compression.graph import walk
from compression.graph.channels.rules.convolution import freeze_from, spread
from compression.graph.channels.tracer import Tracer, rule

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


@rule("BatchNormalization", "InstanceNormalization")
def _per_channel(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])
    trace.freeze(*filter(None, node.output[1:]))
    for name in node.input[1:]:
        trace.broadcast_channels(name, node.input[0])


@rule("GroupNormalization")
def _groups(trace: Tracer, node: onnx.NodeProto) -> None:
    """A group of channels goes as a whole; its scale is the group's before opset 21, then the
    channels'.
    """
    trace.same(node.input[0], node.output[0])
    freeze_from(trace, node.input[0], 2)
    unit = trace.slices.take(cast("int", walk.attribute(node, "num_groups")))
    for ids in (trace.axes(node.input[0])[1], *(trace.axes(name)[0] for name in node.input[1:])):
        trace.slices.join(ids, spread(unit, len(ids)))


@rule("LayerNormalization", "RMSNormalization")
def _layer(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])
    axis = cast("int", walk.attribute(node, "axis", -1)) % len(trace.shape(node.input[0]))
    freeze_from(trace, node.input[0], axis)
    trace.freeze(*filter(None, (*node.input[1:], *node.output[1:])))


@rule("Softmax", "LogSoftmax", "Hardmax")
def _softmax(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])
    rank = len(trace.shape(node.input[0]))
    axis = cast("int", walk.attribute(node, "axis", -1 if trace.opset >= 13 else 1)) % rank
    freeze_from(trace, node.input[0], axis if trace.opset < 13 else rank)
    trace.freeze_axis(node.input[0], axis)


@rule("LpNormalization", "CumSum", "MeanVarianceNormalization", "LRN")
def _along(trace: Tracer, node: onnx.NodeProto) -> None:
    """Which axes matter is not worth a rule of its own: all stay but the first, the batch."""
    trace.same(node.input[0], node.output[0])
    freeze_from(trace, node.input[0], 1)


@rule(*REDUCTIONS)
def _reduce(trace: Tracer, node: onnx.NodeProto) -> None:
    x, y = node.input[0], node.output[0]
    rank = len(trace.shape(x))
    axes = _reduced(trace, node, rank)
    if axes is None:
        trace.freeze(x, y)
        return
    trace.freeze_axis(x, *axes)
    keep = walk.attribute(node, "keepdims", 1)
    left = [axis for axis in range(rank) if keep or axis not in axes]
    for axis, ids in zip(left, trace.axes(y), strict=True):
        trace.join(trace.axes(x)[axis], ids)


def _reduced(trace: Tracer, node: onnx.NodeProto, rank: int) -> list[int] | None:
    """None where the axes are computed."""
    given = walk.attribute(node, "axes")
    if given is None and len(node.input) > 1 and node.input[1]:
        given = trace.values(node.input[1])
        if given is None:
            return None
    if given is None:
        return [] if walk.attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) % rank for axis in np.ravel(cast("list[int]", given))]
