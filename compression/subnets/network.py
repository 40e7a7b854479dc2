"""A network that can be carved: its groups of channels, and its residual blocks."""

from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
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

    def told(self, kept: Kept, dropped: Collection[str]) -> dict[str, list[int]]:
        """The same cut, without the groups that go with these blocks: for the network that is left."""
        read = self._read(dropped)
        return {n: list(units) for n, units in kept.items() if self.groups[n].produced[0].tensor in read}

    def cost(self, kept: Kept, dropped: Collection[str]) -> tuple[int | None, int]:
        """Multiply-accumulates of a sample (None where they cannot be told), and parameters, when carved."""
        after = channels.sizes(self.looked, channels.masks(self.looked, kept))
        read = self._read(dropped)
        params = sum(int(np.prod(after[name])) for name in self._weights if name in read)
        return macs.count(
            self._left(dropped), {name: Shape(0, shape) for name, shape in after.items()}
        ), params

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        graph = self.looked.model.graph
        return tuple(one.name for one in weights.weights(graph) if one.name in self.looked.shapes)

    def _read(self, dropped: Collection[str]) -> set[str]:
        return set().union(*(walk.reads(node) for node in self._left(dropped)))

    def _left(self, dropped: Collection[str]) -> list[onnx.NodeProto]:
        gone = {
            name for block in self._blocks if block.name in dropped for name in (block.name, *block.inner)
        }
        return [node for node in self.looked.model.graph.node if gone.isdisjoint(node.output)]
