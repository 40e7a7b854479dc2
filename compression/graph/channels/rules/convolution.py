"""Convolutions and pooling: spatial axes stay."""

from typing import cast

import numpy as np
import onnx

from compression.graph import walk
from compression.graph.channels.slices import Ids
from compression.graph.channels.tracer import Tracer, rule


def groups(node: onnx.NodeProto) -> int:
    return cast("int", walk.attribute(node, "group", 1))


def freeze_from(trace: Tracer, name: str, first: int) -> None:
    trace.freeze_axis(name, *range(first, len(trace.shape(name))))


@rule("Conv")
def _conv(trace: Tracer, node: onnx.NodeProto) -> None:
    _layer(trace, node, 1, 0)


@rule("ConvTranspose")
def _conv_transpose(trace: Tracer, node: onnx.NodeProto) -> None:
    _layer(trace, node, 0, 1)


def _layer(trace: Tracer, node: onnx.NodeProto, ins: int, outs: int) -> None:
    """`ins` and `outs` are the weight's axes of input and output channels."""
    x, weight, y = node.input[0], node.input[1], node.output[0]
    for name in (x, weight, y):
        freeze_from(trace, name, 2)
    trace.join(trace.axes(x)[0], trace.axes(y)[0])
    for bias in node.input[2:3]:
        trace.broadcast_channels(bias, y)
    if groups(node) > 1:
        _grouped(trace, node, ins, outs)
        return
    trace.join(trace.axes(x)[1], trace.axes(weight)[ins])
    trace.join(trace.axes(weight)[outs], trace.axes(y)[1])
    trace.contract(weight, ins)
    trace.produce(weight, outs)


def _grouped(trace: Tracer, node: onnx.NodeProto, ins: int, outs: int) -> None:
    """A group of channels, which is one channel if depthwise, goes as a whole, inputs with outputs."""
    x, weight, y = (trace.axes(name) for name in (node.input[0], node.input[1], node.output[0]))
    split = min(ins, outs)  # axis 0 holds the channels of all groups, axis 1 those of one
    unit = trace.slices.take(groups(node))
    for ids in (x[1], y[1], weight[split]):
        trace.slices.join(ids, spread(unit, len(ids)))
    trace.slices.freeze(weight[1])


def spread(unit: Ids, size: int) -> Ids:
    """Each slice of `unit` for its share of `size` neighbours."""
    return np.repeat(unit, size // len(unit))


@rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _pool(trace: Tracer, node: onnx.NodeProto) -> None:
    for name in node.output:
        freeze_from(trace, name, 2)
        for axis in (0, 1):
            trace.join(trace.axes(node.input[0])[axis], trace.axes(name)[axis])
    freeze_from(trace, node.input[0], 2)


@rule("Resize", "Upsample")
def _resize(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])
    freeze_from(trace, node.output[0], 2)


@rule("DepthToSpace")
def _depth_to_space(trace: Tracer, node: onnx.NodeProto) -> None:
    """A channel that comes out is block * block that went in: neighbours (CRD) or far apart (DCR)."""
    x, y = node.input[0], node.output[0]
    for name in (x, y):
        freeze_from(trace, name, 2)
    trace.join(trace.axes(x)[0], trace.axes(y)[0])
    out = trace.axes(y)[1]
    mode = cast("bytes", walk.attribute(node, "mode", b"DCR"))
    block = len(trace.axes(x)[1]) // len(out)
    trace.slices.join(trace.axes(x)[1], np.repeat(out, block) if mode == b"CRD" else np.tile(out, block))


@rule("SpaceToDepth")
def _space_to_depth(trace: Tracer, node: onnx.NodeProto) -> None:
    x, y = node.input[0], node.output[0]
    for name in (x, y):
        freeze_from(trace, name, 2)
    trace.join(trace.axes(x)[0], trace.axes(y)[0])
    ins = trace.axes(x)[1]
    trace.slices.join(trace.axes(y)[1], np.tile(ins, len(trace.axes(y)[1]) // len(ins)))
