"""Plan: the graph as a list of calls over numbered slots, each of which is emptied after its last use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from compression.engine.graph import Graph, Node, Value
from compression.engine.operators import OPERATORS
from compression.engine.operators.table import Context, Kernel, Operator
from compression.errors import CompressionError, ErrorKind, Suggestion

OMITTED, IGNORED = 0, 1
"""The slots of an omitted optional input, always None, and of an output that nobody asked for."""


@dataclass(frozen=True, eq=False)
class Call:
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    last: tuple[int, ...]
    """Slots read here for the last time, or never read at all."""
    operator: Operator


@dataclass(frozen=True, eq=False)
class Plan:
    slots: dict[str, int]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def empty(self) -> list[Value]:
        return [None] * (len(self.slots) + 1)

    def run(self, context: Context, values: list[Value]) -> list[Value]:
        """`values` has an entry per slot, inputs filled in; it is used up."""
        on_host = context.device.type == "cpu"
        for call in self.calls:
            arguments = [values[slot] for slot in call.inputs]
            if not on_host:
                arguments = _placed(arguments, call.operator, context)
            if call.operator.contextual:
                arguments.insert(0, context)
            result = call.kernel(*arguments)
            if type(result) is tuple:
                for slot, value in zip(call.outputs, result, strict=False):
                    values[slot] = value
            else:
                values[call.outputs[0]] = result
            for slot in call.last:
                values[slot] = None
            del arguments, result
        return [values[slot] for slot in self.outputs]


def _placed(arguments: list[Value], operator: Operator, context: Context) -> list[Value]:
    """Brings host tensors to the device where any other operand is there already; what is read as numbers
    stays.
    """
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    if all(tensor.device.type == "cpu" for tensor in tensors) or operator.contextual:
        return arguments
    return [
        value.to(context.device) if isinstance(value, Tensor) and slot not in operator.host else value
        for slot, value in enumerate(arguments)
    ]


def compile_graph(graph: Graph, given: Sequence[str]) -> Plan:
    """`given` are the names known before the first call, inputs and stored tensors alike.

    Errors: engine_unsupported.
    """
    _refuse_unknown(graph)
    names = [*given, *(name for node in graph.nodes for name in node.outputs if name)]
    slots = {"": OMITTED} | {
        name: index for index, name in enumerate(dict.fromkeys(names), start=IGNORED + 1)
    }
    last = _last_uses(graph)
    calls = tuple(_call(node, slots, last[index]) for index, node in enumerate(graph.nodes))
    return Plan(slots, calls, tuple(slots[name] for name in graph.outputs))


def _call(node: Node, slots: dict[str, int], last: list[str]) -> Call:
    entry = OPERATORS[node.domain, node.op_type]
    compiled = {name: _Compiled(sub, node.captures) for name, sub in node.subgraphs.items()}
    kernel = entry.build(replace(node, attributes={**node.attributes, **compiled}))
    captures = node.captures if entry.contextual else ()
    inputs = tuple(slots[name] for name in (*node.inputs, *captures))
    outputs = tuple(slots[name] if name else IGNORED for name in node.outputs)
    return Call(kernel, inputs, outputs, (*(slots[name] for name in last), IGNORED), entry)


class _Compiled:
    """The Subgraph of a control operator: its own plan, with what it captures as further inputs."""

    def __init__(self, graph: Graph, captures: tuple[str, ...]) -> None:
        given = (*graph.inputs, *captures)
        self._plan = compile_graph(graph, given)
        self._given = [self._plan.slots[name] for name in given]

    def __call__(self, context: Context, inputs: Sequence[Value], captured: Sequence[Value]) -> list[Value]:
        values = self._plan.empty()
        for slot, value in zip(self._given, (*inputs, *captured), strict=True):
            values[slot] = value
        return self._plan.run(context, values)


def _last_uses(graph: Graph) -> list[list[str]]:
    """For each node the names that nobody needs after it."""
    uses: list[list[str]] = [[] for _ in graph.nodes]
    needed = set(graph.outputs)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        for name in dict.fromkeys((*node.reads, *filter(None, node.outputs))):
            if name not in needed:
                needed.add(name)
                uses[index].append(name)
    return uses


def _refuse_unknown(graph: Graph) -> None:
    unknown: dict[str, list[str]] = {}
    for node in graph.walk():
        if (node.domain, node.op_type) not in OPERATORS:
            unknown.setdefault(".".join(filter(None, (node.domain, node.op_type))), []).append(node.label)
    if unknown:
        raise CompressionError(
            "engine_unsupported",
            f"the training engine has no {_listed(unknown.items())}",
            ErrorKind.UNSUPPORTED,
            suggestions=(
                Suggestion(
                    "static_quantization, dynamic_quantization and half_precision work: they need no engine"
                ),
            ),
        )


def _listed(unknown: Iterable[tuple[str, list[str]]]) -> str:
    return "; ".join(
        f"{name} ({', '.join(labels[:5])}{f' and {len(labels) - 5} more' if len(labels) > 5 else ''})"
        for name, labels in unknown
    )
