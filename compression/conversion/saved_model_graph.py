"""saved_model.pb from strangers, looked through without TensorFlow: what would run is known before it can."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from compression.conversion import saved_model_operators as operators
from compression.conversion.saved_model_wire import Budget, Message, invalid
from compression.errors import CompressionError, Suggestion
from compression.validation.limits import MAX_BYTES, MAX_NODES

_SERVE, _DEFAULT, _INIT = "serve", "serving_default", "__saved_model_init_op"
_DEEPEST = 8


class Plan(NamedTuple):
    """What is to run of a SavedModel."""

    graph: int
    """Which of its graphs."""
    signature: str
    functions: frozenset[str]
    """Those that the signature or the filling of variables calls."""


class _Graph:
    """Fields by their numbers in TensorFlow's graph, function, node_def and attr_value.proto."""

    def __init__(self, graph: Message) -> None:
        self.nodes: dict[str, Message] = {}
        for node in graph.messages(1):
            if self.nodes.setdefault(node.text(1), node) is not node:
                raise invalid("two nodes have the same name")
        found = graph.message(2).messages(1)
        self.functions = {function.message(1).text(1): function for function in found}
        self.called: set[str] = set()
        self.seen = 0

    def check(self, names: list[str], allowed: frozenset[str]) -> None:
        """All that runs for the outputs of these names.

        Errors: CompressionError `op_refused`, `limit_nodes`, `limit_decoded_bytes`.
        """
        waiting, reached = [_node(name) for name in names], set[str]()
        while waiting:
            name = waiting.pop()
            if name in reached or name not in self.nodes:
                continue
            reached.add(name)
            node = self.nodes[name]
            self._check_node(node, allowed)
            waiting += [_node(given) for given in node.texts(3)]

    def _check_node(self, node: Message, allowed: frozenset[str]) -> None:
        self.seen += 1
        if self.seen > MAX_NODES:
            raise CompressionError("limit_nodes", f"the model has more than {MAX_NODES} nodes")
        operators.check(set(node.texts(2)) - self.functions.keys(), allowed)
        for name in {*node.texts(2), *_called(node, 5, 0)} & self.functions.keys():
            self._check_function(name, allowed)

    def _check_function(self, name: str, allowed: frozenset[str]) -> None:
        if name in self.called:
            return
        self.called.add(name)
        if len(self.called) > _MOST_FUNCTIONS:
            raise CompressionError("limit_nodes", f"the model calls more than {_MOST_FUNCTIONS} functions")
        for node in self.functions[name].messages(3):
            self._check_node(node, allowed)


_MOST_FUNCTIONS = 300
"""Each may call the next: this bounds the depth too."""


def _node(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]


def _called(holder: Message, number: int, depth: int) -> Iterator[str]:
    """Names of functions in attributes, also within attributes of such names."""
    if depth > _DEEPEST:
        raise CompressionError("limit_depth", f"functions are nested more than {_DEEPEST} deep")
    for entry in holder.messages(number):
        value = entry.message(2)
        for function in (*value.messages(10), *value.message(1).messages(9)):
            yield from function.texts(1)
            yield from _called(function, 2, depth + 1)


def check(path: Path) -> Plan:
    """Errors: CompressionError `invalid_saved_model`, `op_refused`, `limit_nodes`, `limit_depth`,
    `too_large`, `limit_decoded_bytes`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise CompressionError("too_large", f"saved_model.pb takes more than {MAX_BYTES} bytes")
    graphs = list(Message(memoryview(path.read_bytes()), Budget()).messages(2))
    index = _serving(graphs)
    name, signature = _signature(graphs[index])
    graph = _Graph(graphs[index].message(2))
    outputs = [entry.message(2).text(1) for entry in signature.messages(2)]
    graph.check(outputs, operators.COMPUTING)
    _check_sizes(graph)
    computing = frozenset(graph.called)
    graph.called.clear()
    graph.check([graphs[index].message(3).text(3)], operators.RESTORING)
    return Plan(index, name, computing | graph.called)


def _serving(graphs: list[Message]) -> int:
    found = [index for index, graph in enumerate(graphs) if _SERVE in graph.message(1).texts(4)]
    if len(found) != 1:
        raise invalid(f"saved_model.pb holds {len(found)} graphs for serving; it must hold one")
    return found[0]


def _signature(graph: Message) -> tuple[str, Message]:
    entries = {entry.text(1): entry.message(2) for entry in graph.messages(5)}
    found = {name: value for name, value in entries.items() if name != _INIT}
    if _DEFAULT in found:
        return _DEFAULT, found[_DEFAULT]
    if len(found) != 1:
        names = ", ".join(sorted(found))[:200]
        raise CompressionError(
            "invalid_saved_model",
            f"the model has {len(found)} signatures ({names}) and none is called {_DEFAULT}",
            suggestions=(
                Suggestion(f"save it with one: tf.saved_model.save(m, path, signatures={{'{_DEFAULT}': f}})"),
            ),
        )
    return next(iter(found.items()))


def _check_sizes(graph: _Graph) -> None:
    """Constants may repeat one value, and variables declare any size."""
    bodies = [node for name in graph.called for node in graph.functions[name].messages(3)]
    total = 0
    for node in (*graph.nodes.values(), *bodies):
        for entry in node.messages(5):
            value = entry.message(2)
            shape = value.message(7) if node.text(2) == "VarHandleOp" else value.message(8).message(2)
            sizes = [dim.number(1) for dim in shape.messages(2)]
            total += math.prod(sizes) if sizes else 0
            if total * 4 > MAX_BYTES:
                raise CompressionError("limit_decoded_bytes", f"the weights take more than {MAX_BYTES} bytes")
