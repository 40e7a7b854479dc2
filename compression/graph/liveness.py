"""Peak memory of activations: the largest sum of tensors alive at once, in graph order."""

from collections.abc import Sequence

import onnx

from compression.graph import walk
from compression.graph.shapes import Shapes
from compression.graph.tensors import stored_bytes

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DequantizeLinear"})
"""Operators whose output needs no memory of its own. A runtime fuses DequantizeLinear into its consumer."""


def peak(graph: onnx.GraphProto, shapes: Shapes) -> int | None:
    """Bytes of inputs, outputs and intermediate results; None where a shape is unknown.

    Weights do not count, nor what is computed from weights alone, which a runtime does once as it loads the
    model. A tensor whose only reader is QuantizeLinear counts as that reader's output: runtimes fuse both.
    """
    owners = _owners(graph)
    constants = _constants(graph)
    try:
        sizes = {
            name: stored_bytes(shapes[name].elem_type, shapes[name].dims)
            for name in {owners.get(name, name) for name in _activations(graph)} - constants
        }
    except KeyError:
        return None
    return _sweep(_lifetimes(graph, owners), sizes, len(graph.node))


def _constants(graph: onnx.GraphProto) -> set[str]:
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and walk.reads(node) <= known):
            known.update(node.output)
    return known


def _activations(graph: onnx.GraphProto) -> list[str]:
    filled = {tensor.name for tensor in graph.initializer}
    fed = [value.name for value in graph.input if value.name not in filled]
    return fed + [name for node in graph.node for name in node.output if name]


def _owners(graph: onnx.GraphProto) -> dict[str, str]:
    """Which tensor's memory stands for a name: that of the source of a view, or of the quantized form."""
    readers = _reader_counts(graph)
    owners: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in VIEWS and node.input:
            owners[node.output[0]] = owners.get(node.input[0], node.input[0])
        elif node.op_type == "QuantizeLinear" and readers.get(node.input[0]) == 1:
            owners[node.input[0]] = node.output[0]
    return {name: _root(name, owners) for name in owners}


def _root(name: str, owners: dict[str, str]) -> str:
    seen = {name}
    while name in owners and owners[name] not in seen:
        name = owners[name]
        seen.add(name)
    return name


def _reader_counts(graph: onnx.GraphProto) -> dict[str, int]:
    counts: dict[str, int] = {value.name: 1 for value in (*graph.output, *graph.input)}
    for node in graph.node:
        for name in walk.reads(node):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _lifetimes(graph: onnx.GraphProto, owners: dict[str, str]) -> dict[str, tuple[int, int]]:
    """First and last node index at which each owner's memory is held."""
    spans: dict[str, tuple[int, int]] = {}

    def touch(name: str, at: int) -> None:
        owner = owners.get(name, name)
        first, last = spans.get(owner, (at, at))
        spans[owner] = (min(first, at), max(last, at))

    for value in graph.input:
        touch(value.name, 0)
    for at, node in enumerate(graph.node):
        for name in (*walk.reads(node), *filter(None, node.output)):
            touch(name, at)
    for value in graph.output:
        touch(value.name, len(graph.node) - 1)
    return spans


def _sweep(spans: dict[str, tuple[int, int]], sizes: dict[str, int], length: int) -> int:
    change: Sequence[int] = [0] * (length + 1)
    change = list(change)
    for name, (first, last) in spans.items():
        change[max(first, 0)] += sizes.get(name, 0)
        change[last + 1] -= sizes.get(name, 0)
    alive = highest = 0
    for delta in change:
        alive += delta
        highest = max(highest, alive)
    return highest
