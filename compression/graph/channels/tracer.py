"""What a rule is given: the slices of each tensor's axes, and how to say what goes with what."""

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import numpy_helper

from compression.graph import inspection, walk
from compression.graph.channels.regrouping import Block, blocks
from compression.graph.channels.slices import Ids, Slices
from compression.runtime import Array

Rule = Callable[["Tracer", onnx.NodeProto], None]
RULES: dict[str, Rule] = {}
"""Which slices of inputs and outputs go together, by operator of the default domain. An operator without a
rule freezes all it touches.
"""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


class Tracer:
    """The slices of a graph, whose shapes one sample showed."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.slices, self.shapes, self.opset = Slices(), shapes, inspection.opset(model)
        self.produced: list[tuple[str, int]] = []
        """Axes of constants whose slices make a channel each."""
        self.contracted: list[tuple[str, int]] = []
        """Axes of constants that are summed over: a channel that is zero here is as good as gone."""
        self.regrouped: list[Block] = []
        """Axes that a Reshape splits or merges; settled when all other rules have spoken."""
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._constant = set(self._initializers)
        self._axes = {name: [self.slices.take(size) for size in shape] for name, shape in shapes.items()}
        self._read(model.graph)

    def axes(self, name: str) -> list[Ids]:
        """The slices of each axis; none where the shape is unknown."""
        return self._axes.get(name, [])

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, ())

    def values(self, name: str) -> Array | None:
        """Of an initializer."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_constant(self, name: str) -> bool:
        """Whether it depends on nothing but initializers."""
        return name in self._constant

    def join(self, one: Ids, other: Ids) -> None:
        """Two axes of the same size, slice by slice; a single slice goes with any number and ties none."""
        if len(one) == len(other) and len(one) > 1:
            self.slices.join(one, other)

    def freeze(self, *names: str) -> None:
        """Every slice of these tensors stays."""
        for name in names:
            for axis in self.axes(name):
                self.slices.freeze(axis)

    def freeze_axis(self, name: str, *positions: int) -> None:
        for position in positions:
            self.slices.freeze(self.axes(name)[position])

    def same(self, one: str, other: str) -> None:
        """Two tensors of one rank, axis by axis; where sizes differ, both axes stay."""
        for first, second in zip(self.axes(one), self.axes(other), strict=True):
            if len(first) == len(second):
                self.join(first, second)
            else:
                self.slices.freeze(first)
                self.slices.freeze(second)

    def broadcast(self, names: Sequence[str], output: str) -> None:
        """Axes of operands, aligned at the last, with those of the output."""
        target = self.axes(output)
        for name in names:
            own = self.axes(name)
            for first, second in zip(own, target[len(target) - len(own) :], strict=True):
                self.join(first, second)

    def broadcast_channels(self, vector: str, tensor: str) -> None:
        """One number for each slice of the second axis."""
        if vector:
            self.join(self.axes(vector)[0], self.axes(tensor)[1])

    def produce(self, constant: str, axis: int) -> None:
        if self.is_constant(constant):
            self.produced.append((constant, axis))

    def contract(self, constant: str, axis: int) -> None:
        if self.is_constant(constant):
            self.contracted.append((constant, axis))

    def regroup(self, source: str, target: str) -> None:
        """The same elements in the same order under another shape. An axis of one slice may be dropped, and
        what was cut out of a larger axis, as Q, K and V are, loses its name: it stays.
        """
        found = blocks(self.shape(source), self.shape(target))
        for ids in (*self.axes(source), *self.axes(target)):
            if len(ids) == 1:
                self.slices.freeze(ids)
        if found is None:
            self.freeze(source, target)
            return
        for left, right in found:
            block = Block([self.axes(source)[at] for at in left], [self.axes(target)[at] for at in right])
            if len(left) == len(right) == 1:
                self.join(block.left[0], block.right[0])
            else:
                self.regrouped.append(block)

    def settle(self) -> None:
        """Decides what is left open. Afterwards the slices are complete."""
        for block in self.regrouped:
            block.settle(self.slices)

    def _read(self, graph: onnx.GraphProto) -> None:
        self.freeze(*(value.name for value in graph.input if value.name not in self._initializers))
        self.freeze(*(value.name for value in graph.output))
        for node in graph.node:
            if node.input and walk.reads(node) <= self._constant:
                self._constant.update(node.output)
            self.freeze(*walk.captured(node))
            known = all(name in self.shapes for name in (*node.input, *node.output) if name)
            (RULES.get(node.op_type, _unknown) if known and not node.domain else _unknown)(self, node)


def _unknown(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.freeze(*node.input, *node.output)
