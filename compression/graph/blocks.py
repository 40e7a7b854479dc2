"""Residual blocks, y = x + f(x): what can be left out of a network without changing a shape."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from compression.graph import walk
from compression.graph.index import Index

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention"})
_IDEMPOTENT = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Block:
    """Named by its output."""

    name: str
    skip: str
    """What is left of it: x."""
    inner: tuple[str, ...]
    """First outputs of the nodes that nothing but the block needs."""


def find(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Block, ...]:
    """In the order of the graph, the inner before the outer ones; shapes are those of any sample. A block
    has a layer of its own.
    """
    index = Index(graph)
    places = {name: at for at, node in enumerate(graph.node) for name in node.output}
    return tuple(
        block
        for node in graph.node
        if node.op_type == "Add" and not node.domain and node.output[0] not in index.outputs
        for block in _of(node, index, shapes, places)
    )


def _of(
    add: onnx.NodeProto, index: Index, shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, int]
) -> Iterator[Block]:
    if len({shapes.get(name) for name in (*add.input, *add.output)}) > 1:
        return
    for skip, branch in (tuple(add.input), tuple(add.input)[::-1]):
        if skip == branch or skip in index.initializers or not _reaches(skip, branch, index, places):
            continue
        inner = _own(add, branch, skip, index)
        if any(node.op_type in LAYERS for node in inner):
            yield Block(add.output[0], skip, tuple(node.output[0] for node in inner))


def _reaches(source: str, target: str, index: Index, places: Mapping[str, int]) -> bool:
    """Whether `target` is computed of `source`; nothing before the source's own place is looked at."""
    first, seen, open_ = places.get(source, -1), set[str](), [target]
    while open_:
        name = open_.pop()
        if name == source:
            return True
        if name not in seen and places.get(name, -1) > first:
            seen.add(name)
            open_ += walk.reads(index.producer[name])
    return False


def _own(add: onnx.NodeProto, branch: str, skip: str, index: Index) -> list[onnx.NodeProto]:
    """Nodes that only the branch needs, the last first; what makes `skip` stays."""
    own: list[onnx.NodeProto] = []
    gone = {id(add)}
    open_ = [branch]
    while open_:
        node = index.producer.get(open_.pop())
        if node is None or id(node) in gone or set(node.output) & {skip, *index.outputs}:
            continue
        readers = (reader for name in node.output for reader in index.consumers.get(name, []))
        if all(id(reader) in gone for reader in readers):
            gone.add(id(node))
            own.append(node)
            open_ += walk.reads(node)
    return own


def drop(model: onnx.ModelProto, block: Block) -> onnx.ModelProto:
    """A copy in which whoever read the block's output reads what went into it. An activation that would then
    follow itself goes too.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    gone = {block.name, *block.inner}
    nodes = [node for node in graph.node if not gone & set(node.output)]
    _rename(nodes, {block.name: block.skip})
    outputs = {value.name for value in graph.output}
    twice = {node.output[0]: node.input[0] for node in nodes if _repeats(node, block.skip, nodes)}
    twice = {name: source for name, source in twice.items() if name not in outputs}
    nodes = [node for node in nodes if node.output[0] not in twice]
    _rename(nodes, twice)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    _forget(graph)
    return copy


def _rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """What nodes read, subgraphs included."""
    for node in nodes:
        inner = (other for graph in walk.subgraphs(node) for other in walk.nodes(graph))
        for reader in (node, *inner):
            reader.input[:] = [names.get(name, name) for name in reader.input]


def _repeats(node: onnx.NodeProto, source: str, nodes: Iterable[onnx.NodeProto]) -> bool:
    """Whether it does to `source` what was just done to make it."""
    if node.op_type not in _IDEMPOTENT or node.input[0] != source:
        return False
    made = next((other for other in nodes if source in other.output), None)
    if made is None or made.op_type != node.op_type:
        return False
    return list(made.input[1:]) == list(node.input[1:]) and bool(made.attribute == node.attribute)


def _forget(graph: onnx.GraphProto) -> None:
    """Constants and stored shapes that belong to nothing now."""
    read = {value.name for value in graph.output}.union(*(walk.reads(node) for node in graph.node))
    made = {name for node in graph.node for name in node.output}
    for field, known in (("initializer", read), ("value_info", made)):
        kept = [entry for entry in getattr(graph, field) if entry.name in known]
        graph.ClearField(field)
        getattr(graph, field).extend(kept)
