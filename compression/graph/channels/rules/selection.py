"""Parts of an axis: joined, split, cut out or picked."""

from typing import cast

import numpy as np
import onnx

from compression.graph import walk
from compression.graph.channels.slices import Ids
from compression.graph.channels.tracer import Tracer, rule
from compression.graph.channels.windows import windows


def axis_of(trace: Tracer, node: onnx.NodeProto, name: str, default: int = 0) -> int:
    return cast("int", walk.attribute(node, "axis", default)) % max(len(trace.shape(name)), 1)


def _join_others(trace: Tracer, one: str, other: str, axis: int) -> None:
    for position, (first, second) in enumerate(zip(trace.axes(one), trace.axes(other), strict=True)):
        if position != axis:
            trace.join(first, second)


@rule("Concat")
def _concat(trace: Tracer, node: onnx.NodeProto) -> None:
    whole = node.output[0]
    _parts(trace, whole, list(node.input), axis_of(trace, node, whole))


@rule("Split")
def _split(trace: Tracer, node: onnx.NodeProto) -> None:
    _parts(trace, node.input[0], list(node.output), axis_of(trace, node, node.input[0]))


def _parts(trace: Tracer, whole: str, names: list[str], axis: int) -> None:
    start = 0
    for name in names:
        own = trace.axes(name)[axis]
        trace.slices.join(own, trace.axes(whole)[axis][start : start + len(own)])
        start += len(own)
        _join_others(trace, name, whole, axis)


@rule("Slice")
def _slice(trace: Tracer, node: onnx.NodeProto) -> None:
    x, y = node.input[0], node.output[0]
    cuts = windows(trace.shape(x), node, trace.values)
    if cuts is None:
        trace.same(x, y)
        return
    for axis, (source, target) in enumerate(zip(trace.axes(x), trace.axes(y), strict=True)):
        start, step = cuts.get(axis, (0, 1))
        if step == 1 and len(target) > 0:
            trace.slices.join(target, source[start : start + len(target)])
        else:
            trace.freeze_axis(x, axis)
            trace.freeze_axis(y, axis)


@rule("Gather")
def _gather(trace: Tracer, node: onnx.NodeProto) -> None:
    data, indices, y = node.input[0], node.input[1], node.output[0]
    axis = axis_of(trace, node, data)
    x, picks, out = trace.axes(data), trace.axes(indices), trace.axes(y)
    for first, second in zip(
        (*x[:axis], *x[axis + 1 :]), (*out[:axis], *out[axis + len(picks) :]), strict=True
    ):
        trace.join(first, second)
    for first, second in zip(picks, out[axis : axis + len(picks)], strict=True):
        trace.join(first, second)
    values = trace.values(indices)
    if values is None or values.ndim != 1 or len(np.unique(values)) < len(values):
        trace.freeze_axis(data, axis)
    else:
        trace.slices.join(out[axis], x[axis][values])
    if trace.is_constant(data) and not trace.is_constant(indices) and axis == 0:
        _embedding(trace, data)


def _embedding(trace: Tracer, table: str) -> None:
    for axis in range(1, len(trace.shape(table))):
        trace.produce(table, axis)


@rule("Pad")
def _pad(trace: Tracer, node: onnx.NodeProto) -> None:
    """An axis that is padded stays."""
    x, y = node.input[0], node.output[0]
    trace.same(x, y)
    rank = len(trace.shape(x))
    given = walk.attribute(node, "pads") if len(node.input) == 1 else trace.values(node.input[1])
    if given is None or len(node.input) > 3:
        trace.freeze(x)
        return
    amounts = np.ravel(cast("Ids", given)).reshape(2, rank)
    trace.freeze_axis(x, *np.flatnonzero(amounts.any(0)).tolist())


@rule("Tile")
def _repeat(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])
