"""RNN, GRU and LSTM: torch's fused layer where it computes the same, else a loop over the steps.

ONNX orders the gates i o f c (LSTM) and z r h (GRU), torch i f g o and r z n. Shapes: X [time, batch, input],
W [directions, gates * hidden, input], Y [time, directions, batch, hidden]; `layout` 1 puts the batch first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator, unsupported

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]

ORDERS: Mapping[str, Sequence[int]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}


def _affine(x: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    return x * alpha + beta


def _thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, 0)


def _scaled_tanh(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


def _leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    return functional.leaky_relu(x, alpha)


ACTIVATIONS: Mapping[str, Callable[..., Tensor]] = {
    "Affine": _affine,
    "Elu": functional.elu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Relu": torch.relu,
    "ScaledTanh": _scaled_tanh,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Tanh": torch.tanh,
    "ThresholdedRelu": _thresholded_relu,
}
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Affine", "HardSigmoid", "ScaledTanh"), ("alpha", "beta")),
    **dict.fromkeys(("Elu", "LeakyRelu", "ThresholdedRelu"), ("alpha",)),
}


def _activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """alpha and beta are consumed, in order, by the activations that take one."""
    given = {"alpha": iter(alphas), "beta": iter(betas)}
    made: list[Activation] = []
    for name in names:
        options = {key: next(given[key], None) for key in PARAMETERS.get(name, ())}
        made.append(partial(ACTIVATIONS[name], **{k: v for k, v in options.items() if v is not None}))
    return made


@dataclass(frozen=True)
class Weights:
    """One direction: input and recurrent matrices, their biases, and the LSTM's peepholes."""

    w: Tensor
    r: Tensor
    biases: Tensor
    peepholes: Tensor | None

    @property
    def w_bias(self) -> Tensor:
        return self.biases.chunk(2)[0]

    @property
    def r_bias(self) -> Tensor:
        return self.biases.chunk(2)[1]


class Layer:
    """What a node says of its layer."""

    def __init__(self, node: Node) -> None:
        self.kind, self.outputs = node.op_type, node.outputs
        self.direction = node.text("direction", "forward")
        self.directions = 2 if self.direction == "bidirectional" else 1
        names = list(node.attributes.get("activations") or DEFAULTS[self.kind] * self.directions)
        self.default = names == list(DEFAULTS[self.kind]) * self.directions
        if any(name not in ACTIVATIONS for name in names):
            raise unsupported(node, f"activations {', '.join(names)}")
        alphas, betas = (node.attributes.get(f"activation_{key}") or [] for key in ("alpha", "beta"))
        self.activations = _activations(names, alphas, betas)
        self.clip = node.attributes.get("clip")
        self.batch_first = node.flag("layout")
        self.reset_after = node.flag("linear_before_reset")
        self.coupled = node.flag("input_forget")

    @property
    def fused(self) -> bool:
        plain = self.default and self.clip is None and not self.coupled and self.direction != "reverse"
        return plain and (self.kind != "GRU" or self.reset_after)

    def activations_of(self, direction: int) -> list[Activation]:
        count = len(DEFAULTS[self.kind])
        return self.activations[direction * count : (direction + 1) * count]


@operator("RNN", "GRU", "LSTM")
def recurrent(node: Node) -> Kernel:
    layer = Layer(node)

    def kernel(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        bias, lengths, hidden, cell, peepholes = (*rest, *[None] * 5)[:5]
        if layer.batch_first:
            x = x.transpose(0, 1)
            hidden, cell = (None if s is None else s.transpose(0, 1) for s in (hidden, cell))
        bias = w.new_zeros(w.shape[0], 2 * w.shape[1]) if bias is None else bias
        first = x.new_zeros(w.shape[0], x.shape[1], r.shape[2])
        state = (first if hidden is None else hidden, first if cell is None else cell)
        if layer.fused and lengths is None and peepholes is None:
            y, last = _fused(layer, x, (w, r, bias), state)
        else:
            weights = [
                Weights(w[d], r[d], bias[d], None if peepholes is None else peepholes[d])
                for d in range(w.shape[0])
            ]
            y, last = _looped(layer, x, weights, (state, lengths))
        if layer.batch_first:
            return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last)
        return y, *last

    return kernel


def _reordered(x: Tensor, kind: str) -> Tensor:
    parts = x.chunk(len(ORDERS[kind]), 0)
    return torch.cat([parts[i] for i in ORDERS[kind]])


def _fused(
    layer: Layer, x: Tensor, given: tuple[Tensor, Tensor, Tensor], state: State
) -> tuple[Tensor, State]:
    w, r, bias = given
    flat: list[Tensor] = []
    for d in range(layer.directions):
        halves = bias[d].chunk(2)
        flat += [_reordered(part, layer.kind) for part in (w[d], r[d], *halves)]
    options: Any = (True, 1, 0.0, False, layer.directions == 2, False)
    if layer.kind == "LSTM":
        y, *last = torch.lstm(x, state, flat, *options)
    else:
        function = torch.gru if layer.kind == "GRU" else torch.rnn_tanh
        y, *last = function(x, state[0], flat, *options)
    return y.reshape(*y.shape[:-1], layer.directions, -1).transpose(1, 2), tuple(last)


def _looped(
    layer: Layer, x: Tensor, weights: list[Weights], start: tuple[State, Tensor | None]
) -> tuple[Tensor, State]:
    (hidden, cell), lengths = start
    ys, lasts = [], []
    for d, own in enumerate(weights):
        backward = layer.direction == "reverse" or d == 1
        step = _STEPS[layer.kind](layer, own, layer.activations_of(d))
        state = (hidden[d], cell[d]) if layer.kind == "LSTM" else (hidden[d],)
        y, last = _unrolled(step, functional.linear(x, own.w, own.w_bias), state, lengths, backward)
        ys.append(y)
        lasts.append(last)
    return torch.stack(ys, 1), tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))


def _unrolled(
    step: Step, x: Tensor, state: State, lengths: Tensor | None, backward: bool
) -> tuple[Tensor, State]:
    """A sequence that has ended keeps its state and puts out zeros."""
    steps = range(x.shape[0])
    ys: list[Tensor] = [x] * x.shape[0]
    for t in reversed(steps) if backward else steps:
        new = step(x[t], state)
        y = new[0]
        if lengths is not None:
            alive = (t < lengths.to(x.device))[:, None]
            new = tuple(torch.where(alive, after, before) for after, before in zip(new, state, strict=True))
            y = torch.where(alive, y, 0)
        state, ys[t] = new, y
    return torch.stack(ys), state


def _clipped(layer: Layer, x: Tensor) -> Tensor:
    return x if layer.clip is None else x.clamp(-layer.clip, layer.clip)


def _rnn_step(layer: Layer, own: Weights, activations: list[Activation]) -> Step:
    (f,) = activations
    return lambda x, state: (f(_clipped(layer, x + functional.linear(state[0], own.r, own.r_bias))),)


def _gru_step(layer: Layer, own: Weights, activations: list[Activation]) -> Step:
    f, g = activations
    rz, rr, rh = own.r.chunk(3)
    bz, br, bh = own.r_bias.chunk(3)

    def step(x: Tensor, state: State) -> State:
        (h,) = state
        xz, xr, xh = x.chunk(3, -1)
        z = f(_clipped(layer, xz + functional.linear(h, rz, bz)))
        reset = f(_clipped(layer, xr + functional.linear(h, rr, br)))
        inner = (
            reset * functional.linear(h, rh, bh)
            if layer.reset_after
            else functional.linear(reset * h, rh, bh)
        )
        new = g(_clipped(layer, xh + inner))
        return ((1 - z) * new + z * h,)

    return step


def _lstm_step(layer: Layer, own: Weights, activations: list[Activation]) -> Step:
    f, g, h = activations
    peep_i, peep_o, peep_f = (0, 0, 0) if own.peepholes is None else own.peepholes.chunk(3)

    def step(x: Tensor, state: State) -> State:
        hidden, cell = state
        i, o, forget, c = (x + functional.linear(hidden, own.r, own.r_bias)).chunk(4, -1)
        i = f(_clipped(layer, i + peep_i * cell))
        forget = 1 - i if layer.coupled else f(_clipped(layer, forget + peep_f * cell))
        new = forget * cell + i * g(_clipped(layer, c))
        o = f(_clipped(layer, o + peep_o * new))
        return o * h(new), new

    return step


_STEPS: Mapping[str, Callable[[Layer, Weights, list[Activation]], Step]] = {
    "RNN": _rnn_step,
    "GRU": _gru_step,
    "LSTM": _lstm_step,
}
