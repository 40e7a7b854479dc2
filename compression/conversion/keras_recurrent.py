"""Recurrent layers of Keras as the operators LSTM, GRU and RNN: exported as Keras runs them, a loop over the
time, they would be as many copies of the cell as the example has steps.

Shapes: Keras has [batch, time, features], ONNX [time, batch, features] and one more axis for directions.
Gates: Keras has i f c o (LSTM) and z r h (GRU), ONNX i o f c and z r h.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import torch
from torch import Tensor

from compression.conversion.keras_config import refused

_OPERATORS: Mapping[str, tuple[str, Sequence[int]]] = {
    "LSTM": ("LSTM", (0, 3, 1, 2)),
    "GRU": ("GRU", (0, 1, 2)),
    "SimpleRNN": ("RNN", (0,)),
}
"""The operator, and Keras's places of its gates."""
_ACTIVATIONS: Mapping[str, tuple[str, Sequence[float], Sequence[float]]] = {
    "elu": ("Elu", (1.0,), ()),
    "hard_sigmoid": ("HardSigmoid", (1 / 6,), (0.5,)),
    "linear": ("Affine", (1.0,), (0.0,)),
    "relu": ("Relu", (), ()),
    "sigmoid": ("Sigmoid", (), ()),
    "softplus": ("Softplus", (), ()),
    "softsign": ("Softsign", (), ()),
    "tanh": ("Tanh", (), ()),
}
"""The operator's name of each, its alphas and its betas."""

Call = Callable[..., Any]


def prepare(model: Any) -> None:
    """From now on an export of the model writes those operators; run by itself it computes as before.

    Errors: CompressionError `layer_refused`.
    """
    for layer in _layers(model):
        kind = type(layer).__name__
        if kind in _OPERATORS:
            layer.call = _Recurrent(layer, layer.call, _operator(layer))
        elif kind == "TimeDistributed":
            layer.call = _TimeDistributed(layer, layer.call)


def _layers(model: Any) -> Iterator[Any]:
    """Those within others, too; each once."""
    seen: dict[int, Any] = {id(layer): layer for layer in model._flatten_layers()}  # noqa: SLF001  no public way
    yield from seen.values()


@dataclass(frozen=True)
class _Operator:
    name: str
    attributes: Mapping[str, Any]
    weights: tuple[Tensor, Tensor, Tensor]
    """W [1, gates * units, features], R [1, gates * units, units], B [1, 2 * gates * units]."""


def _operator(layer: Any) -> _Operator:
    cell = layer.cell
    name, order = _OPERATORS[type(layer).__name__]
    functions = [_activation(layer, function) for function in _functions(name, cell)]
    attributes: dict[str, Any] = {
        "hidden_size": cell.units,
        "direction": "reverse" if layer.go_backwards else "forward",
        "activations": [function for function, _, _ in functions],
    }
    if alphas := [alpha for _, own, _ in functions for alpha in own]:
        attributes["activation_alpha"] = alphas
    if betas := [beta for _, _, own in functions for beta in own]:
        attributes["activation_beta"] = betas
    if name == "GRU":
        attributes["linear_before_reset"] = int(cell.reset_after)
    return _Operator(name, attributes, _weights(cell, order))


def _functions(name: str, cell: Any) -> list[Any]:
    """In ONNX's order: of the gates, of what is new, and of the LSTM's output."""
    gates = [] if name == "RNN" else [cell.recurrent_activation]
    return [*gates, *[cell.activation] * (2 if name == "LSTM" else 1)]


def _activation(layer: Any, function: Any) -> tuple[str, Sequence[float], Sequence[float]]:
    name = keras.activations.serialize(function)
    if name not in _ACTIVATIONS:
        raise refused(type(layer).__name__, f"with the activation {name!r}, which ONNX's has not")
    return _ACTIVATIONS[name]


def _weights(cell: Any, order: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    kernels = [_gates(variable.value.detach(), order).T for variable in (cell.kernel, cell.recurrent_kernel)]
    width = kernels[0].shape[0]
    biases = torch.zeros(2, width, dtype=kernels[0].dtype)
    if cell.use_bias:
        given = _gates(cell.bias.value.detach(), order)
        biases[: 1 if given.ndim == 1 else 2] = given  # a GRU that resets afterwards has two
    return (*(kernel.contiguous()[None] for kernel in kernels), biases.reshape(1, -1))  # type: ignore[return-value]


def _gates(values: Tensor, order: Sequence[int]) -> Tensor:
    parts = values.chunk(len(order), dim=-1)
    return torch.cat([parts[at] for at in order], dim=-1)


class _Recurrent:
    """`call` of a recurrent layer."""

    def __init__(self, layer: Any, call: Call, operator: _Operator) -> None:
        self.layer, self.original, self.operator = layer, call, operator

    def __call__(
        self, sequences: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool = False
    ) -> Any:
        if not torch.compiler.is_exporting():
            return self.original(sequences, initial_state=initial_state, mask=mask, training=training)
        states = [] if initial_state is None else list(keras.tree.flatten(initial_state))
        masked = None if mask is None else _Masked(mask.bool(), backwards=self.layer.go_backwards)
        outputs, *last = self._run(sequences if masked is None else masked.packed(sequences), states, masked)
        output = self._sequence(outputs, masked) if self.layer.return_sequences else last[0]
        if masked is not None and states:  # where no step counts the state stays what it was
            counts = masked.mask.any(1, keepdim=True)
            last = [torch.where(counts, new, old) for new, old in zip(last, states, strict=True)]
        return (output, *last) if self.layer.return_state else output

    def _sequence(self, outputs: Tensor, masked: "_Masked | None") -> Tensor:
        """In the order in which Keras went through them."""
        if masked is not None:
            outputs = masked.spread(outputs, zero=self.layer.zero_output_for_mask)
        return outputs.flip(1) if self.layer.go_backwards else outputs

    def _run(self, x: Tensor, states: Sequence[Tensor], masked: "_Masked | None") -> list[Tensor]:
        """Outputs of all steps, in the order of the time, and the last states: [batch, …]."""
        operator, units = self.operator, self.operator.attributes["hidden_size"]
        batch, time = x.shape[0], x.shape[1]
        count = 2 if operator.name == "LSTM" else 1
        lengths = None if masked is None else masked.lengths
        given = [state.to(x.dtype)[None] for state in states]
        first: list[Tensor | None] = [*given] or [None] * count
        made = torch.onnx.ops.symbolic_multi_out(
            operator.name,
            (x.transpose(0, 1), *operator.weights, lengths, *first),
            dict(operator.attributes),
            dtypes=[x.dtype] * (1 + count),
            shapes=[[time, 1, batch, units], *[[1, batch, units]] * count],
        )
        return [made[0][:, 0].transpose(0, 1), *(state[0] for state in made[1:])]


class _Masked:
    """Steps that do not count are moved behind those that do, which are as many as the operator's lengths
    say; afterwards each step gets the output of the last one that counted. `mask`: [batch, time].
    """

    def __init__(self, mask: Tensor, *, backwards: bool) -> None:
        self.mask, self._backwards = mask, backwards
        self._counted = mask.to(torch.int64)
        self.lengths = self._counted.sum(1).to(torch.int32)

    def packed(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1])[None]
        order = torch.where(self.mask, time, time + x.shape[1]).argsort(1)
        return x.gather(1, order[..., None].expand_as(x))

    def spread(self, outputs: Tensor, *, zero: bool) -> Tensor:
        before = self._counted.cumsum(1)
        place = before - self._counted if self._backwards else before - 1
        seen = (place < self.lengths[:, None]) & (place >= 0)
        found = outputs.gather(1, torch.where(seen, place, 0)[..., None].expand_as(outputs))
        shown = seen & self.mask if zero else seen
        return torch.where(shown[..., None], found, 0)


class _TimeDistributed:
    """`call` of a TimeDistributed: all steps at once, as if each were a sample."""

    def __init__(self, layer: Any, call: Call) -> None:
        self.layer, self.original = layer, call

    def __call__(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Any:
        if not torch.compiler.is_exporting():
            return self.original(inputs, training=training, mask=mask)
        inner, arguments = self.layer.layer, {}
        if mask is not None and inner._call_has_mask_arg:  # noqa: SLF001  as Keras asks
            arguments["mask"] = mask.flatten(0, 1)
        outputs = inner.call(inputs.flatten(0, 1), **arguments)
        return outputs.unflatten(0, (inputs.shape[0], inputs.shape[1]))
