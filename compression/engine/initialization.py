"""Random initialisation by role, as if the network had never been trained."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from compression.engine.convert import assign, from_proto
from compression.engine.engine import Engine
from compression.engine.graph import Node, Reader
from compression.engine.roles import Reading, Role, readings
from compression.model import Model

_RECURRENT = {"LSTM", "GRU", "RNN"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"}
_SLOPE = 0.25
"""Of PRelu."""


def initialise(model: Model, seed: int, inputs: Mapping[str, Tensor] | None = None) -> Model:
    """The model, normalised before, with random weights; the same for the same seed.

    Kernels and matrices are normal with variance 2 / fan_in (He et al. 2015, arXiv:1502.01852) and then,
    given inputs of some samples, scaled layer by layer to outputs of unit variance (Mishkin and Matas 2016,
    arXiv:1511.06422): the scale of raw data and missing normalisation do not matter. Recurrent weights are
    uniform within 1 / sqrt(hidden size), embeddings normal at the scale they had; biases are 0, scales 1.
    Constants stay.
    """
    drawn = Model(model.copy())
    reader = Reader(drawn.proto)
    stored = {name: from_proto(tensor) for name, tensor in reader.stored.items()}
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Reading] = {}
    for reading in readings(reader.graph, stored):
        found.setdefault(reading.tensor, reading)
    for name, reading in found.items():
        value = _drawn(reading, stored[name], generator)
        assign(reader.stored[name], value.to(stored[name].dtype))
    if inputs is not None:
        _unit_variance(drawn, reader, list(found.values()), inputs)
    return drawn


def _drawn(reading: Reading, present: Tensor, generator: torch.Generator) -> Tensor:
    if reading.node.op_type in _RECURRENT:
        bound = 1 / math.sqrt(reading.node.integer("hidden_size", present.shape[-1]))
        return (torch.rand(present.shape, generator=generator, dtype=torch.float64) * 2 - 1) * bound
    match reading.role:
        case Role.WEIGHT:
            deviation = math.sqrt(2 / fan_in(reading.node, reading.slot, present))
        case Role.EMBEDDING:
            deviation = float(present.double().square().mean().sqrt())
        case _:
            return _constant(reading, present)
    return torch.randn(present.shape, generator=generator, dtype=torch.float64) * deviation


def _constant(reading: Reading, present: Tensor) -> Tensor:
    match reading.role:
        case Role.SCALE:
            return torch.full_like(present, _SLOPE if reading.node.op_type == "PRelu" else 1)
        case Role.BIAS:
            return torch.zeros_like(present)
        case Role.STATISTIC:
            return torch.full_like(present, reading.slot - 3)  # mean 0, variance 1
        case _:
            return present


def fan_in(node: Node, slot: int, weight: Tensor) -> int:
    """How many products one output element sums."""
    shape = weight.shape
    match node.op_type:
        case "Conv":
            return math.prod(shape[1:])
        case "ConvTranspose":
            strides = node.ints("strides") or [1]
            return max(1, shape[0] * math.prod(shape[2:]) // node.integer("group", 1) // math.prod(strides))
        case "Einsum":
            terms, _, result = node.text("equation").replace(" ", "").partition("->")
            return math.prod(
                n for axis, n in zip(terms.split(",")[slot], shape, strict=True) if axis not in result
            )
        case "Gemm":
            turned = node.flag("transB" if slot else "transA")
            return shape[1 if turned == bool(slot) else 0]
        case _:
            return shape[-1 if slot == 0 or len(shape) == 1 else -2]


def _unit_variance(model: Model, reader: Reader, found: list[Reading], inputs: Mapping[str, Tensor]) -> None:
    """One layer after the other, in the order of the graph: what reads it sees the new scale."""
    weights = {reading.node.outputs[0]: reading.tensor for reading in found if _scaled(reading)}
    layers = [node.outputs[0] for node in reader.graph.nodes if node.outputs[0] in weights]
    if not layers:
        return
    engine = Engine.from_model(model, layers).eval()
    values = engine.values()
    with torch.no_grad():
        for output in layers:
            deviation = engine(inputs)[output].double().std(correction=0)
            if bool(deviation.isfinite()) and deviation > 0:
                values[weights[output]].div_(deviation)
    for name in weights.values():
        assign(reader.stored[name], values[name])


def _scaled(reading: Reading) -> bool:
    return reading.direct and reading.role is Role.WEIGHT and reading.node.op_type in _PRODUCTS
