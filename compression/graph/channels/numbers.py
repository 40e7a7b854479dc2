"""Numbers of channels written down in a graph: groups, heads, sizes of parts, bounds, and shapes."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.graph import inspection, walk
from compression.graph.channels.extents import SHAPES, Entry, evaluated
from compression.graph.channels.groups import Channels
from compression.graph.channels.kept import Masks, sizes
from compression.graph.channels.windows import bounds
from compression.graph.index import Array, Index

Rewrite = Callable[["Rewriting", onnx.NodeProto], None]
REWRITES: dict[str, Rewrite] = {}
_SPLIT_AS_INPUT = 13
"""Opset from which on sizes of a Split are an input."""


def _rewrites(*operators: str) -> Callable[[Rewrite], Rewrite]:
    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(operators, function))
        return function

    return register


class Rewriting:
    """A graph while its numbers are corrected."""

    def __init__(self, channels: Channels, model: onnx.ModelProto, masks: Masks) -> None:
        self.graph, self.masks, self.opset = model.graph, masks, inspection.opset(model)
        self.entries, self.before, self.after = channels.entries, channels.shapes, sizes(channels, masks)
        self.computed = evaluated(channels.model, channels.entries, self.after)
        self.index = Index(channels.model.graph)
        self._nodes = {node.output[0]: node for node in model.graph.node if node.output}
        self._added: dict[str, onnx.NodeProto] = {}

    def touches(self, node: onnx.NodeProto) -> bool:
        return any(name in self.masks or name in self.entries for name in (*node.input, *node.output))

    def mask(self, name: str, axis: int) -> Array | None:
        """Which slices of an axis stay; None if all do."""
        return self.masks.get(name, {}).get(axis % max(len(self.before[name]), 1))

    def store(self, node: onnx.NodeProto, slot: int, values: Any) -> None:
        """A constant of the node's own; other readers of the old one keep it."""
        old = self.index.constant(node.input[slot]) if slot < len(node.input) else None
        dtype = np.int64 if old is None else old.dtype
        node.input.extend([""] * (slot + 1 - len(node.input)))
        node.input[slot] = self.constant(f"{node.output[0]}_{slot}_cut", np.asarray(values, dtype))

    def constant(self, name: str, values: Array) -> str:
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def pin(self, node: onnx.NodeProto, slot: int, wrong: Sequence[bool], sizes: Sequence[int]) -> None:
        """Right numbers for the wrong entries of a computed shape: where a Concat takes them from a constant,
        there; else behind it.
        """
        name = node.input[slot]
        if self.index.only_consumer(name) is not None and self._pinned(self._nodes[name], wrong, sizes):
            return
        mask = self.constant(f"{node.output[0]}_mask_cut", np.asarray(wrong))
        fixed = self.constant(f"{node.output[0]}_sizes_cut", np.asarray(sizes, np.int64))
        node.input[slot] = f"{node.output[0]}_shape_cut"
        self._added[node.output[0]] = helper.make_node(
            "Where", [mask, fixed, name], [node.input[slot]], name=node.input[slot]
        )

    def _pinned(self, node: onnx.NodeProto, wrong: Sequence[bool], sizes: Sequence[int]) -> bool:
        if node.op_type != "Concat":
            return False
        ends = np.cumsum([int(np.prod(self.before[name])) for name in node.input])
        parts = [int(np.searchsorted(ends, at, "right")) for at in np.flatnonzero(wrong)]
        if any(node.input[part] not in self.index.initializers for part in parts):
            return False
        for part in set(parts):
            values = numpy_helper.to_array(self.index.initializers[node.input[part]])
            span = slice(int(ends[part]) - values.size, int(ends[part]))
            self.store(node, part, np.where(wrong[span], sizes[span], values))
        return True

    def finish(self) -> None:
        """Puts added nodes in front of those that read them."""
        nodes = [
            one
            for node in self.graph.node
            for one in (self._added.get(node.output[0]), node)
            if one is not None
        ]
        if self._added:
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del self.graph.node[:]
            self.graph.node.extend(copies)


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, *([] if value is None else [helper.make_attribute(name, value)])])


@_rewrites("Conv", "ConvTranspose")
def _groups(cut: Rewriting, node: onnx.NodeProto) -> None:
    groups = cast("int", walk.attribute(node, "group", 1))
    if groups > 1:
        before, after = cut.before[node.input[0]][1], cut.after[node.input[0]][1]
        _set(node, "group", after * groups // before)


@_rewrites("GroupNormalization")
def _normalised(cut: Rewriting, node: onnx.NodeProto) -> None:
    before, after = cut.before[node.input[0]][1], cut.after[node.input[0]][1]
    _set(node, "num_groups", cast("int", walk.attribute(node, "num_groups")) * after // before)


@_rewrites("Attention")
def _heads(cut: Rewriting, node: onnx.NodeProto) -> None:
    for name, operand in (("q_num_heads", node.input[0]), ("kv_num_heads", node.input[1])):
        heads = cast("int", walk.attribute(node, name, 0))
        if heads:
            _set(node, name, heads * cut.after[operand][2] // cut.before[operand][2])


@_rewrites("Split")
def _split(cut: Rewriting, node: onnx.NodeProto) -> None:
    axis = cast("int", walk.attribute(node, "axis", 0))
    if cut.mask(node.input[0], axis) is None:
        return
    parts = [cut.after[name][axis] for name in node.output]
    if cut.opset < _SPLIT_AS_INPUT:
        _set(node, "split", parts)
    else:
        _set(node, "num_outputs", None)
        cut.store(node, 1, parts)


@_rewrites("Gather")
def _gather(cut: Rewriting, node: onnx.NodeProto) -> None:
    mask = cut.mask(node.input[0], cast("int", walk.attribute(node, "axis", 0)))
    picked = cut.index.constant(node.input[1])
    if mask is not None and picked is not None:
        places = np.cumsum(mask) - 1
        cut.store(node, 1, places[picked[mask[picked]]])


@_rewrites("Slice")
def _slice(cut: Rewriting, node: onnx.NodeProto) -> None:
    given = bounds(node, cut.index.constant)
    if given is None or node.input[0] not in cut.masks:
        return
    starts, ends, axes, _ = given
    for at, axis in enumerate(axes):
        mask = cut.mask(node.input[0], axis)
        if mask is not None:
            first, last, _ = slice(starts[at], ends[at]).indices(len(mask))
            starts[at], ends[at] = int(mask[:first].sum()), int(mask[:last].sum())
    for slot, (name, values) in enumerate({"starts": starts, "ends": ends}.items(), 1):
        if len(node.input) == 1:
            _set(node, name, values)
        else:
            cut.store(node, slot, values)


@_rewrites(*SHAPES)
def _shape(cut: Rewriting, node: onnx.NodeProto) -> None:
    """Sizes that are written down, or computed of what was cut, become those of the cut output."""
    slot, output = SHAPES[node.op_type], node.output[0]
    if len(node.input) <= slot or not (name := node.input[slot]):
        return
    count = int(np.prod(cut.before[name]))
    before, after = (
        np.array(shapes[output][len(shapes[output]) - count :]) for shapes in (cut.before, cut.after)
    )
    constant = cut.index.constant(name)
    if constant is not None:
        changed = (constant == before) & (before != after)
        if changed.any():
            cut.store(node, slot, np.where(changed, after, constant))
        return
    wrong = _wrong(cut, name, before, after)
    if wrong.any():
        cut.pin(node, slot, wrong.tolist(), after.tolist())


def _wrong(cut: Rewriting, name: str, before: Array, after: Array) -> Array:
    """Entries that do not come out right by themselves; 0 and -1 do, in a Reshape."""
    values = cut.computed.get(name)
    if values is not None:
        return np.asarray((values != after) & (values > 0))
    entries = cut.entries.get(name) or [Entry()] * len(after)
    lost = [any(cut.mask(*axis) is not None for axis in entry.axes) for entry in entries]
    return np.asarray((before != after) | lost)
