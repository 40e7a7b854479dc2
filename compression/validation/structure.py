"""The graph of a hostile model: versions, operators, and names that lead somewhere."""

import heapq
from collections.abc import Iterable, Sequence

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as capi

from compression.errors import CompressionError, ErrorKind
from compression.graph import walk

_RUNTIME = {(schema.domain or "ai.onnx", schema.name) for schema in capi.get_all_operator_schema()}
_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml", "com.microsoft"})
_LATEST = {"ai.onnx": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_onnx", why)


def check(model: onnx.ModelProto) -> None:
    """Errors: CompressionError `invalid_onnx`, `op_refused`."""
    _check_versions(model)
    local = {(function.domain, function.name) for function in model.functions}
    bodies: list[Iterable[onnx.NodeProto]] = [walk.nodes(model.graph)]
    bodies += [function.node for function in model.functions]
    for body in bodies:
        for node in body:
            if (node.domain, node.op_type) not in local:
                _check_operator(node)
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            raise CompressionError(
                "op_refused",
                f"{value.name!r} is no tensor; inputs and outputs must be",
                ErrorKind.UNSUPPORTED,
            )


def _check_versions(model: onnx.ModelProto) -> None:
    if not model.HasField("graph") or not 3 <= model.ir_version <= onnx.IR_VERSION:
        raise invalid(
            f"ir_version {model.ir_version} with{'' if model.HasField('graph') else 'out'} a graph is not read"
        )
    for entry in model.opset_import:
        latest = _LATEST.get(entry.domain or "ai.onnx")
        if latest and not 1 <= entry.version <= latest:
            raise invalid(
                f"opset {entry.version} of {entry.domain or 'ai.onnx'!r} is not read; at most {latest} is"
            )
    if not model.graph.output:
        raise invalid("the graph has no output")


def _check_operator(node: onnx.NodeProto) -> None:
    domain = node.domain or "ai.onnx"
    if domain not in _DOMAINS or (domain, node.op_type) not in _RUNTIME:
        raise CompressionError(
            "op_refused",
            f"operator {node.op_type!r} of domain {domain!r} is not known to ONNX Runtime",
            ErrorKind.UNSUPPORTED,
        )


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
        raise invalid(f"output {min(missing)!r} is made by no node")
    for node in graph.node:
        for inner in walk.subgraphs(node):
            sort(inner, frozenset(known))


def _defined_once(names: Sequence[str], given: Iterable[str] = ()) -> set[str]:
    seen = set(given)
    own: set[str] = set()
    for name in names:
        if name in seen:
            raise invalid(f"{name!r} is made twice")
        seen.add(name)
        own.add(name)
    return own


def _order(nodes: Sequence[onnx.NodeProto], ready: set[str], made: set[str]) -> list[int]:
    """Kahn's algorithm, the earliest node first, whose inputs are known."""
    needs = [walk.reads(node) - ready for node in nodes]
    unknown = set().union(*needs) - made if needs else set()
    if unknown:
        raise invalid(f"{min(unknown)!r} is read but made by nothing")
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
        raise invalid("the graph has a cycle")
    return order
