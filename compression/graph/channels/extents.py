"""Where numbers of slices are used as numbers: which entry of a computed shape is the size of which axis."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from compression.graph import walk
from compression.graph.channels.tracer import Tracer
from compression.graph.channels.windows import windows
from compression.graph.index import Array


class Entry(NamedTuple):
    """An integer of a shape: sizes of these axes (tensor, number) went into it."""

    axes: frozenset[tuple[str, int]] = frozenset()


Entries = list[Entry]
SHAPES = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Input slots that hold a shape, which a cut corrects."""
_SAME = {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten"}
_MIXING = {
    "Abs", "Add", "Ceil", "Div", "Equal", "Floor", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Pow", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Sub", "Where",
}  # fmt: skip
"""Every entry of their results is made of all entries they are given."""


def follow(trace: Tracer, graph: onnx.GraphProto) -> dict[str, Entries]:
    """The entries of every tensor that sizes go into. An axis whose size is used for anything else than a
    shape stays as it is.
    """
    found: dict[str, Entries] = {}
    for node in graph.node:
        sizes = [name for slot, name in enumerate(node.input) if name in found and not _shapes(node, slot)]
        if node.op_type == "Shape" and not node.domain:
            found[node.output[0]] = _sizes(trace, node)
        elif sizes and (made := _made(trace, node, found)) is not None:
            found |= made
        else:
            for axis in {axis for name in sizes for entry in found[name] for axis in entry.axes}:
                trace.freeze_axis(axis[0], axis[1])
    return found


def _shapes(node: onnx.NodeProto, slot: int) -> bool:
    return not node.domain and SHAPES.get(node.op_type) == slot


def _sizes(trace: Tracer, node: onnx.NodeProto) -> Entries:
    name = node.input[0]
    entries = [Entry(frozenset({(name, axis)})) for axis in range(len(trace.shape(name)))]
    return entries[cast("int", walk.attribute(node, "start", 0)) : cast("int", walk.attribute(node, "end"))]


def _made(trace: Tracer, node: onnx.NodeProto, found: Mapping[str, Entries]) -> dict[str, Entries] | None:
    """None where it is not known what becomes of the entries."""
    if node.domain or any(len(trace.shape(name)) > 1 for name in node.output):
        return None
    given = [found.get(name) or [Entry()] * math.prod(trace.shape(name)) for name in node.input if name]
    made: Entries | None = None
    if node.op_type == "Concat":
        made = [entry for entries in given for entry in entries]
    elif node.op_type in _SAME:
        made = given[0]
    elif node.op_type in _MIXING:
        mixed = Entry(frozenset().union(*(entry.axes for entries in given for entry in entries)))
        made = [mixed] * math.prod(trace.shape(node.output[0]))
    elif node.op_type in _SELECTED:
        made = _SELECTED[node.op_type](trace, node, given[0])
    return None if made is None else {node.output[0]: made}


def _gathered(trace: Tracer, node: onnx.NodeProto, entries: Entries) -> Entries | None:
    picked = trace.values(node.input[1])
    return None if picked is None else [entries[at] for at in np.ravel(picked).tolist()]


def _sliced(trace: Tracer, node: onnx.NodeProto, entries: Entries) -> Entries | None:
    cuts = windows(trace.shape(node.input[0]), node, trace.values)
    if cuts is None:
        return None
    start, step = cuts.get(0, (0, 1))
    return [entries[start + step * at] for at in range(math.prod(trace.shape(node.output[0])))]


_SELECTED = {"Gather": _gathered, "Slice": _sliced}


def evaluated(
    model: onnx.ModelProto, followed: Mapping[str, Sequence[Entry]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """What the followed tensors hold for other shapes; those that depend on more than shapes are absent."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    small = (tensor for tensor in model.graph.initializer if len(tensor.dims) < 2)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in small}
    for node in model.graph.node:
        if node.output[0] not in followed:
            continue
        if node.op_type == "Shape":
            ends = cast("int", walk.attribute(node, "start", 0)), cast("int", walk.attribute(node, "end"))
            known[node.output[0]] = np.array(shapes[node.input[0]][slice(*ends)], np.int64)
        elif all(name in known for name in node.input if name):
            feeds = {name: known[name] for name in node.input if name}
            (known[node.output[0]],) = cast(
                "list[Array]", ReferenceEvaluator(node, opsets=opsets).run(None, feeds)
            )
    return {name: value for name, value in known.items() if name in followed}
