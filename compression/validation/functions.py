"""Local functions of a hostile model: how many nodes its calls stand for, counted without expanding any."""

from collections.abc import Iterable

import onnx

from compression.errors import CompressionError
from compression.graph import walk
from compression.validation.limits import MAX_CALL_DEPTH, MAX_NODES

Key = tuple[str, str, str]


def check(model: onnx.ModelProto) -> None:
    """Errors: CompressionError `limit_nodes`, `limit_depth`, `invalid_onnx` (a function that calls
    itself).
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counter = _Counter(functions)
    if counter.nodes(model.graph.node, 0) > MAX_NODES:
        raise CompressionError(
            "limit_nodes", f"with its functions expanded the model has more than {MAX_NODES} nodes"
        )


class _Counter:
    def __init__(self, functions: dict[Key, onnx.FunctionProto]) -> None:
        self.functions = functions
        self.known: dict[Key, int] = {}
        self.open: set[Key] = set()

    def nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        return sum(self.node(node, depth) for node in nodes)

    def node(self, node: onnx.NodeProto, depth: int) -> int:
        inner = sum(self.nodes(graph.node, depth) for graph in walk.subgraphs(node))
        key = (node.domain, node.op_type, node.overload)
        return inner + (self.call(key, depth + 1) if key in self.functions else 1)

    def call(self, key: Key, depth: int) -> int:
        if key in self.open:
            raise CompressionError("invalid_onnx", f"function {key[1]!r} calls itself")
        if depth > MAX_CALL_DEPTH:
            raise CompressionError("limit_depth", f"functions call functions more than {MAX_CALL_DEPTH} deep")
        if key not in self.known:
            self.open.add(key)
            self.known[key] = self.nodes(self.functions[key].node, depth)
            self.open.discard(key)
        return self.known[key]
