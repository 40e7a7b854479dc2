"""The ONNX graph as plain Python, with every value's name unique in the whole model, subgraphs included."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from torch import Tensor

from compression.engine.convert import NARROW, from_proto
from compression.errors import CompressionError, ErrorKind, Suggestion

OLDEST = 7
"""The first operator set the table serves; an older file is read if its operators were the same then."""
ONNX_DOMAINS = {"", "ai.onnx"}
N = TypeVar("N")
Value = Any
"""What flows along an edge: a Tensor, a list of Tensors (a sequence) or None (an omitted optional input)."""


@dataclass(frozen=True)
class Node:
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 25
    name: str = ""
    domain: str = ""
    constants: Mapping[int, Tensor] = field(default_factory=dict)
    """Values, by input slot, that training never changes."""
    types: Mapping[str, int] = field(default_factory=dict)
    """ONNX element types of the operands, by name, that torch holds in a wider type."""

    @property
    def label(self) -> str:
        return self.name or next(filter(None, self.outputs), self.op_type)

    @property
    def subgraphs(self) -> dict[str, "Graph"]:
        return {name: value for name, value in self.attributes.items() if isinstance(value, Graph)}

    @cached_property
    def captures(self) -> tuple[str, ...]:
        """Names of the surroundings that the subgraphs read, in a fixed order."""
        names = (name for graph in self.subgraphs.values() for name in graph.free)
        return tuple(dict.fromkeys(names))

    @property
    def reads(self) -> tuple[str, ...]:
        return (*filter(None, self.inputs), *self.captures)

    def integer(self, name: str, default: int = 0) -> int:
        return int(self.attributes.get(name, default))

    def flag(self, name: str, default: int = 0) -> bool:
        return bool(self.attributes.get(name, default))

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        return str(self.attributes.get(name, default))

    def ints(self, name: str) -> list[int] | None:
        value = self.attributes.get(name)
        return None if value is None else [int(i) for i in value]

    def has(self, slot: int) -> bool:
        """Whether this optional input is given."""
        return slot < len(self.inputs) and bool(self.inputs[slot])


@dataclass(frozen=True)
class Graph:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Names that are read here and made outside."""
        made = {*self.inputs, *(name for node in self.nodes for name in node.outputs)}
        reads = [*(name for node in self.nodes for name in node.reads), *self.outputs]
        return tuple(dict.fromkeys(name for name in reads if name not in made))

    @cached_property
    def producers(self) -> dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs if name}

    def walk(self) -> Iterator[Node]:
        """Every node, those of subgraphs after the one that holds them."""
        for node in self.nodes:
            yield node
            for graph in node.subgraphs.values():
                yield from graph.walk()

    def rebuild(self, nodes: Sequence[Node]) -> "Graph":
        return replace(self, nodes=tuple(nodes))


class Reader:
    """Reads a model once. `stored` refers to the very tensors of the message (initializers and Constant nodes
    of every depth), so that trained values can be written where they were read.
    """

    def __init__(self, proto: ModelProto) -> None:
        self._opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._used: set[str] = set()
        self._types: dict[str, int] = {}
        self.stored: dict[str, TensorProto] = {}
        self.graph = self._graph(proto.graph, ChainMap())

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._used:
            count += 1
            unique = f"{name}#{count}"
        self._used.add(unique)
        return unique

    def _declare(self, names: Sequence[str], scope: "ChainMap[str, str]") -> tuple[str, ...]:
        for name in names:
            if name:
                scope[name] = self._unique(name)
        return tuple(scope[name] if name else "" for name in names)

    def _graph(self, graph: GraphProto, scope: "ChainMap[str, str]") -> Graph:
        if graph.sparse_initializer:
            raise CompressionError(
                "engine_unsupported", "sparse initializers are not trained", ErrorKind.UNSUPPORTED
            )
        stored = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            (name,) = self._declare([tensor.name], scope)
            self.stored[name] = tensor
            self._type(name, tensor.data_type)
        inputs = self._declare([value.name for value in graph.input if value.name not in stored], scope)
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._type(scope.get(value.name, value.name), value.type.tensor_type.elem_type)
        nodes = [node for proto in graph.node if (node := self._node(proto, scope)) is not None]
        outputs = tuple(scope.get(value.name, value.name) for value in graph.output)
        return Graph(
            inputs, outputs, tuple(in_order(nodes, lambda node: node.reads, lambda node: node.outputs))
        )

    def _node(self, proto: NodeProto, scope: "ChainMap[str, str]") -> Node | None:
        inputs = tuple(scope.get(name, name) for name in proto.input)
        attributes = {entry.name: self._attribute(entry, scope) for entry in proto.attribute}
        outputs = self._declare(list(proto.output), scope)
        domain = "" if proto.domain in ONNX_DOMAINS else proto.domain
        if proto.op_type == "Constant" and "value" in attributes:
            self.stored[outputs[0]] = proto.attribute[0].t
            return None
        opset = self._opsets.get(proto.domain, self._opsets.get("", 1))
        if opset < OLDEST and not domain:
            _refuse_changed(proto, opset)
        types = {name: self._types[name] for name in (*inputs, *outputs) if name in self._types}
        return Node(proto.op_type, inputs, outputs, attributes, opset, proto.name, domain, types=types)

    def _type(self, name: str, element: int) -> None:
        if element in NARROW:
            self._types[name] = element

    def _attribute(self, entry: AttributeProto, scope: "ChainMap[str, str]") -> Any:
        if entry.type == AttributeProto.GRAPH:
            return self._graph(entry.g, scope.new_child())
        value = onnx.helper.get_attribute_value(entry)
        if isinstance(value, TensorProto):
            return from_proto(value)
        if isinstance(value, bytes):
            return value.decode()
        if entry.type == AttributeProto.STRINGS:
            return [item.decode() for item in value]
        return value


def _refuse_changed(proto: NodeProto, opset: int) -> None:
    if not onnx.defs.has(proto.op_type):
        return
    if onnx.defs.get_schema(proto.op_type, OLDEST).since_version > opset:
        raise CompressionError(
            "engine_unsupported",
            f"{proto.op_type} of operator set {opset} ({proto.name or proto.output[0]}) means something else",
            ErrorKind.UNSUPPORTED,
            suggestions=(Suggestion(f"export the model with operator set {OLDEST} or later"),),
        )


def in_order(
    nodes: Sequence[N], reads: Callable[[N], Iterable[str]], makes: Callable[[N], Iterable[str]]
) -> list[N]:
    """Every node after those it reads; as given where that holds already, or where it cannot."""
    waiting, done = list(nodes), list[N]()
    unmade = {name for node in nodes for name in makes(node) if name}
    while waiting:
        ready = (index for index, node in enumerate(waiting) if unmade.isdisjoint(reads(node)))
        first = next(ready, None)
        if first is None:
            return list(nodes)
        done.append(waiting.pop(first))
        unmade.difference_update(makes(done[-1]))
    return done
