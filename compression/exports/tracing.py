"""A graph for torch.export: the kernels of the engine, given numbers where they read stored tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from compression.engine import Engine, normalise
from compression.engine.graph import Graph, Node, Value
from compression.engine.operators.table import Context
from compression.engine.plan import Call
from compression.engine.roles import Role
from compression.model import Model


class _Numbers(list[Any]):
    """A stored tensor that a kernel reads as numbers: tracing would lose what a tensor holds."""

    def item(self) -> Any:
        return self[0]

    def tolist(self) -> list[Any]:
        return list(self)


@dataclass
class Place:
    """Outside of the module, whose own attributes torch.export puts back."""

    operator: str = "before the first operator"


class Traced(Engine):
    def __init__(
        self, model: Model, graph: Graph, stored: Mapping[str, Tensor], roles: Mapping[str, Role]
    ) -> None:
        super().__init__(model, graph, stored, roles)
        self._nodes = graph.nodes
        self._numbers = {name: _Numbers(tensor.reshape(-1).tolist()) for name, tensor in self._host.items()}
        self.place = Place()
        """The operator that ran last, for the error that names it."""

    @classmethod
    def of(cls, model: Model) -> Self:
        """Errors: CompressionError `engine_unsupported`."""
        engine = cls.from_model(normalise(model))
        engine.eval()
        return engine

    def forward(self, inputs: Mapping[str, Value] | None = None, /, **named: Value) -> dict[str, Value]:
        values: dict[str, Value] = {"": None, **self.values(), **(inputs or {}), **named}
        context = Context(training=False, frozen_statistics=False, device=self.device)
        for node, call in zip(self._nodes, self._plan.calls, strict=True):
            self.place.operator = f"{node.op_type} {node.label!r}"
            result = call.kernel(*self._arguments(node, call, values, context))
            results = result if type(result) is tuple else (result,)
            values.update(zip(node.outputs, results, strict=False))
            values[""] = None
        return {name: values[name] for name in self.outputs}

    def _arguments(
        self, node: Node, call: Call, values: Mapping[str, Value], context: Context
    ) -> list[Value]:
        arguments = [
            self._numbers[name] if slot in call.operator.host and name in self._numbers else values[name]
            for slot, name in enumerate(node.inputs)
        ]
        if call.operator.contextual:
            return [context, *arguments, *(values[name] for name in node.captures)]
        return arguments
