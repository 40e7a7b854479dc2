"""Topological order."""

import heapq
from collections.abc import Iterable, Sequence

import onnx

from compression.errors import CompressionError
from compression.graph import walk


def sort(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> None:
    """Puts nodes in topological order, subgraphs included; one that is in order already stays as it is.

    Errors: CompressionError `invalid_onnx` for cycles, values made twice, and names nothing makes.
    """
    given = _defined_once([value.name for value in graph.input])
    given |= (
        {tensor.name for tensor in graph.initializer}
        | {s.values.name for s in graph.sparse_initializer}
        | {""}
    )
    made = _defined_once([name for node in graph.node for name in node.output if name], given)
    order = _order(graph.node, given | outer, made)
    if order != list(range(len(graph.node))):
        nodes = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
        del graph.node[:]
        graph.node.extend(nodes)
    known = given | made | outer
    missing = {value.name for value in graph.output} - known
    if missing:
        raise _invalid(f"output {min(missing)!r} is made by no node")
    for node in graph.node:
        for inner in walk.subgraphs(node):
            sort(inner, frozenset(known))


def _defined_once(names: Sequence[str], given: Iterable[str] = ()) -> set[str]:
    seen = set(given)
    own: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(f"{name!r} is made twice")
        seen.add(name)
        own.add(name)
    return own


def _order(nodes: Sequence[onnx.NodeProto], ready: set[str], made: set[str]) -> list[int]:
    """Kahn's algorithm, the earliest node first, whose inputs are known."""
    needs = [walk.reads(node) - ready for node in nodes]
    unknown = set().union(*needs) - made if needs else set()
    if unknown:
        raise _invalid(f"{min(unknown)!r} is read but made by nothing")
    readers: dict[str, list[int]] = {}
    for index, names in enumerate(needs):
        for name in names:
            readers.setdefault(name, []).append(index)
    return _drain(nodes, needs, readers)


def _drain(
    nodes: Sequence[onnx.NodeProto], needs: list[set[str]], readers: dict[str, list[int]]
) -> list[int]:
    heap = [index for index, names in enumerate(needs) if not names]
    order = []
    while heap:
        index = heapq.heappop(heap)
        order.append(index)
        for name in nodes[index].output:
            for reader in readers.get(name, ()):
                needs[reader].discard(name)
                if not needs[reader]:
                    heapq.heappush(heap, reader)
            readers.pop(name, None)
    if len(order) != len(nodes):
        raise _invalid("the graph has a cycle")
    return order


def _invalid(why: str) -> CompressionError:
    return CompressionError("invalid_onnx", why)
