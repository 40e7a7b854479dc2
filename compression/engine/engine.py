"""Engine: an ONNX graph as a torch module. Its parameters are the graph's weights by name; trained values go
back there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote

import torch
from torch import Tensor, nn

from compression.engine.convert import assign, from_proto
from compression.engine.graph import Graph, Node, Reader, Value
from compression.engine.operators.table import Context
from compression.engine.peephole import fuse
from compression.engine.plan import compile_graph
from compression.engine.roles import Role, assign_roles
from compression.model import Model

_HOST_ELEMENTS = 64
"""Integer constants up to this size, and single numbers, stay on the CPU: shapes, axes and bounds."""


class Engine(nn.Module):
    """Runs and differentiates an ONNX model.

    `roles` says for each stored tensor, by its name in the file, what it is. Weights are Parameters, the
    statistics of BatchNormalization buffers; both are found by name in `values()`. In train mode
    BatchNormalization and Dropout do what they do in training; `frozen_statistics` keeps BatchNormalization
    in eval mode, as small batches need. Tensors passed in must be on the engine's device.
    """

    def __init__(
        self, model: Model, graph: Graph, stored: Mapping[str, Tensor], roles: Mapping[str, Role]
    ) -> None:
        super().__init__()
        self.roles = dict(roles)
        self.frozen_statistics = False
        self.channels_last = False
        self.autocast: torch.dtype | None = None
        """bfloat16 for mixed precision; None computes as the file says."""
        self.observer: Callable[[str, Tensor], None] | None = None
        """Is shown what each pair of QuantizeLinear and DequantizeLinear is about to round, with the name of
        its scale.
        """
        self.detour: Callable[[Mapping[str, Value]], dict[str, Value]] | None = None
        """Runs in place of the graph: a part of the network, say, on the weights that are trained here."""
        self.inputs, self.outputs = graph.inputs, graph.outputs
        convolved = {node.inputs[1] for node in graph.walk() if node.op_type == "Conv"}
        self.image_weights = {name for name in convolved & set(stored) if stored[name].dim() == 4}
        """Weights that follow the memory format of images."""
        self._source = _Shared(model)
        self._host = {name: stored[name] for name in _host(stored, roles)}
        self._keys = {name: _key(name) for name in stored if name not in self._host}
        self.tensors = nn.Module()
        for name, key in self._keys.items():
            _register(self.tensors, key, stored[name], roles[name])
        self._plan = compile_graph(graph, (*graph.inputs, *stored))

    @classmethod
    def from_model(cls, model: Model, outputs: Sequence[str] | None = None) -> Self:
        """`outputs` names tensors to return instead of the graph's outputs, intermediate ones too.

        Errors: engine_unsupported, with the operators that are missing and their nodes.
        """
        reader = Reader(model.proto)
        stored = {name: from_proto(tensor) for name, tensor in reader.stored.items()}
        graph = reader.graph if outputs is None else replace(reader.graph, outputs=tuple(outputs))
        roles = assign_roles(graph, stored)
        constants = {name: tensor for name, tensor in stored.items() if roles[name] is Role.CONSTANT}
        return cls(model, fuse(with_constants(graph, constants)), stored, roles)

    def values(self) -> dict[str, Tensor]:
        """The stored tensors by name: Parameters, statistics and constants."""
        held = self._held()
        return {
            name: self._host[name] if name in self._host else held[self._keys[name]] for name in self.roles
        }

    def parameters_by_role(self, *roles: Role) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and Parameters of these roles, all of them if none is given; a tied tensor comes once."""
        for name, value in self.values().items():
            if isinstance(value, nn.Parameter) and (not roles or self.roles[name] in roles):
                yield name, value

    def learn(self, names: Iterable[str]) -> None:
        """Makes stored tensors Parameters that are none by their role: scales of quantization."""
        for name in names:
            key = self._keys[name]
            tensor = self.tensors.get_buffer(key)
            delattr(self.tensors, key)
            self.tensors.register_parameter(key, nn.Parameter(tensor))

    def forward(self, inputs: Mapping[str, Value] | None = None, /, **named: Value) -> dict[str, Value]:
        """Inputs by name, as one mapping or as keywords; outputs by name."""
        given = {**(inputs or {}), **named}
        return self.evaluate(given, {}) if self.detour is None else self.detour(given)

    def evaluate(self, inputs: Mapping[str, Value], instead: Mapping[str, Tensor]) -> dict[str, Value]:
        """Outputs with other tensors in place of stored ones, by name: what another engine trains, say."""
        slots = self._plan.slots
        values = self._plan.empty()
        for name, value in {**self.values(), **instead}.items():
            values[slots[name]] = value
        for name in self.inputs:
            values[slots[name]] = self._laid_out(inputs[name])
        context = Context(self.training, self.frozen_statistics, self.device, self.observer)
        mixed = torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext()
        with mixed:
            results = self._plan.run(context, values)
        return dict(zip(self.outputs, map(self._restored, results), strict=True))

    @property
    def device(self) -> torch.device:
        return next(
            (tensor.device for tensor in self._held().values() if tensor is not None), torch.device("cpu")
        )

    @property
    def model(self) -> Model:
        """What it was made from."""
        return self._source.model

    def write_back(self) -> Model:
        """The model with the present values in its initializers; nothing else changes, names least of all.
        Untouched values keep their bytes.
        """
        source = self._source.model
        proto = source.copy()
        values = self.values()
        for name, tensor in Reader(proto).stored.items():
            if self.roles[name] is not Role.CONSTANT:
                assign(tensor, values[name])
        return Model(proto)

    def _held(self) -> dict[str, Any]:
        return {**self.tensors._parameters, **self.tensors._buffers}  # noqa: SLF001

    def _laid_out(self, value: Value) -> Value:
        if self.channels_last and isinstance(value, Tensor) and value.dim() == 4:
            return value.contiguous(memory_format=torch.channels_last)
        return value

    def _restored(self, value: Value) -> Value:
        """Mixed precision ends inside: outputs have the file's type."""
        if self.autocast is not None and isinstance(value, Tensor) and value.dtype == self.autocast:
            return value.float()
        return value


class _Shared:
    """Keeps one copy of the model however often an engine is deep-copied (an average of the
    weights is one).
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self


def with_constants(graph: Graph, constants: Mapping[str, Tensor]) -> Graph:
    """Shows every node the operands that stay as they are."""
    return graph.rebuild([_informed(node, constants) for node in graph.nodes])


def _informed(node: Node, constants: Mapping[str, Tensor]) -> Node:
    known = {slot: constants[name] for slot, name in enumerate(node.inputs) if name in constants}
    subgraphs = {name: with_constants(graph, constants) for name, graph in node.subgraphs.items()}
    return replace(node, constants=known, attributes={**node.attributes, **subgraphs})


def _host(stored: Mapping[str, Tensor], roles: Mapping[str, Role]) -> set[str]:
    constants = (name for name in stored if roles[name] is Role.CONSTANT)
    return {name for name in constants if stored[name].numel() <= _size_limit(stored[name])}


def _size_limit(tensor: Tensor) -> int:
    return 1 if tensor.is_floating_point() else _HOST_ELEMENTS


def _key(name: str) -> str:
    """A module's attribute name for a tensor's name: no dots, nothing a module has itself; reversible."""
    key = quote(name, safe="/:#-+ ").replace(".", "%2E")
    return f"{key}%" if not key or hasattr(_EMPTY, key) else key


_EMPTY = nn.Module()


def _register(module: nn.Module, key: str, tensor: Tensor, role: Role) -> None:
    if role.trained:
        module.register_parameter(key, nn.Parameter(tensor))
    else:
        module.register_buffer(key, tensor, persistent=role is not Role.CONSTANT)
