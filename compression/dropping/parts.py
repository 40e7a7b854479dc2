"""What can be dropped of a network at once: residual blocks, or the layers of a transformer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import onnx

from compression.dropping.options import Options, Unit
from compression.graph import blocks
from compression.graph.blocks import Block
from compression.graph.index import Index

_MIXES = frozenset({"Softmax", "Attention"})
"""Operators of a block that mixes positions: a transformer's layer begins with one."""


@dataclass(frozen=True)
class Part:
    """Blocks one after the other; named by its last block."""

    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        return self.blocks[-1].name

    @property
    def source(self) -> str:
        """What goes in."""
        return self.blocks[0].skip

    def names(self, graph: onnx.GraphProto) -> set[str]:
        """What it can be called: its blocks, their nodes and the weights of those."""
        made = {name for block in self.blocks for name in (block.name, *block.inner)}
        own = [node for node in graph.node if not made.isdisjoint(node.output)]
        return made.union(*({node.name, *node.input} for node in own)) - {""}

    def joined(self, block: Block) -> Self:
        return type(self)((*self.blocks, block))


def find(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], unit: Unit) -> list[Part]:
    """In the order of the graph. A layer is a block with attention and those that follow, up to the next one
    with attention; in a network without, every block is one.
    """
    every = blocks.find(graph, shapes)
    index = Index(graph)
    attending = [block.name for block in every if _attends(block, index)]
    parts: list[Part] = []
    for block in every:
        if unit == "layer" and attending and parts and block.name not in attending:
            parts[-1] = parts[-1].joined(block)
        else:
            parts.append(Part((block,)))
    return parts


def _attends(block: Block, index: Index) -> bool:
    return any(index.producer[name].op_type in _MIXES for name in block.inner)


def droppable(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], options: Options) -> list[Part]:
    """Without those that are to be kept: the first and last of the whole network, and the excluded ones."""
    parts = find(graph, shapes, options.unit)
    parts = parts[options.keep_first : len(parts) - options.keep_last]
    return [part for part in parts if part.names(graph).isdisjoint(options.exclude)]


def without(model: onnx.ModelProto, part: Part) -> onnx.ModelProto:
    """A copy with all of its branches left out, the last first: what the earlier ones are found by stays."""
    for block in reversed(part.blocks):
        model = blocks.drop(model, block)
    return model
