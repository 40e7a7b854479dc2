"""A network that can be carved: its groups of channels, and its residual blocks."""

import math
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import NamedTuple

import onnx

from compression import runtime
from compression.graph import blocks, channels, macs, walk, weights
from compression.graph.channels import Group, Kept
from compression.graph.shapes import Shape
from compression.model import Model


class Network:
    """Of one model; `feeds` is a sample of its inputs."""

    def __init__(self, model: Model, feeds: Mapping[str, runtime.Array]) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self.feeds = feeds
        self.looked = channels.find(model.proto, feeds)
        self._blocks = blocks.find(self.looked.model.graph, self.looked.shapes)
        self._known: dict[tuple[str, ...], _Left] = {}

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        return {group.name: group for group in self.looked.groups}

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the residual blocks that can be left out, in the order of the graph."""
        return tuple(block.name for block in self._blocks)

    def carved(self, kept: Kept, dropped: Collection[str]) -> onnx.ModelProto:
        """The network without the units that are not kept and without these blocks.

        Errors: CompressionError `unknown_group`, `empty_group`.
        """
        proto = channels.cut(self.looked, kept)
        for block in reversed(self._blocks):  # a later block reads an earlier one's output
            if block.name in dropped:
                proto = blocks.drop(proto, block)
        return proto

    def told(self, kept: Kept, dropped: tuple[str, ...]) -> dict[str, list[int]]:
        """The same cut, without the groups that go with these blocks: for the network that is left."""
        read = self._left(dropped).read
        return {n: list(units) for n, units in kept.items() if self.groups[n].produced[0].tensor in read}

    def sizes(self, kept: Kept) -> dict[str, tuple[int, ...]]:
        """Shapes of one sample after the cut, from the numbers of units alone."""
        after = dict(self.looked.shapes)
        for name, units in kept.items():
            gone = self.groups[name].size - len(units)
            for member in self.groups[name].members:
                shape = list(after[member.tensor])
                shape[member.axis] -= gone * member.indices.shape[1]
                after[member.tensor] = tuple(shape)
        return after

    def cost(self, kept: Kept, dropped: tuple[str, ...]) -> tuple[int | None, int]:
        """Multiply-accumulates of a sample (None where they cannot be told), and parameters, when carved."""
        after, left = self.sizes(kept), self._left(dropped)
        params = sum(math.prod(after[name]) for name in left.weights)
        return macs.count(left.nodes, {name: Shape(0, shape) for name, shape in after.items()}), params

    def _left(self, dropped: tuple[str, ...]) -> "_Left":
        if dropped not in self._known:
            gone = {
                name for block in self._blocks if block.name in dropped for name in (block.name, *block.inner)
            }
            graph = self.looked.model.graph
            nodes = [node for node in graph.node if gone.isdisjoint(node.output)]
            read = set().union(*(walk.reads(node) for node in nodes))
            stored = (one.name for one in weights.weights(graph))
            held = [name for name in stored if name in read and name in self.looked.shapes]
            self._known[dropped] = _Left(nodes, read, held)
        return self._known[dropped]


class _Left(NamedTuple):
    """Of a network without some of its blocks."""

    nodes: list[onnx.NodeProto]
    read: set[str]
    weights: list[str]
