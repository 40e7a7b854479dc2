"""Roles: what each stored tensor is to the network, told by the operator and input slot that read it.

A float tensor is not a parameter by being float: Clip bounds, epsilons, 1/6 and Resize scales are constants.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from compression.engine.graph import Graph, Node


class Role(StrEnum):
    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    EMBEDDING = "embedding"
    STATISTIC = "statistic"
    """Running mean or variance of a BatchNormalization: follows the batches in train mode, gets no
    gradient.
    """
    QUANTIZATION_SCALE = "quantization_scale"
    ZERO_POINT = "zero_point"
    """Of QuantizeLinear and DequantizeLinear: buffers that whoever learns ranges may set or train."""
    CONSTANT = "constant"

    @property
    def trained(self) -> bool:
        return self in {Role.WEIGHT, Role.BIAS, Role.SCALE, Role.EMBEDDING}


_NORMALISATION = {1: Role.SCALE, 2: Role.BIAS}
_QUANTIZATION = {1: Role.QUANTIZATION_SCALE, 2: Role.ZERO_POINT}
_RECURRENT = {1: Role.WEIGHT, 2: Role.WEIGHT, 3: Role.BIAS, 7: Role.WEIGHT}
ROLES: Mapping[str, Mapping[int, Role]] = {
    "Conv": {1: Role.WEIGHT, 2: Role.BIAS},
    "ConvTranspose": {1: Role.WEIGHT, 2: Role.BIAS},
    "Gemm": {0: Role.WEIGHT, 1: Role.WEIGHT, 2: Role.BIAS},
    "MatMul": {0: Role.WEIGHT, 1: Role.WEIGHT},
    "Einsum": dict.fromkeys(range(8), Role.WEIGHT),
    "Gather": {0: Role.EMBEDDING},
    "BatchNormalization": {1: Role.SCALE, 2: Role.BIAS, 3: Role.STATISTIC, 4: Role.STATISTIC},
    "InstanceNormalization": _NORMALISATION,
    "LayerNormalization": _NORMALISATION,
    "GroupNormalization": _NORMALISATION,
    "RMSNormalization": {1: Role.SCALE},
    "PRelu": {1: Role.SCALE},
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "QuantizeLinear": _QUANTIZATION,
    "DequantizeLinear": _QUANTIZATION,
}
_PRODUCTS = {"MatMul", "Gemm"}
"""Their first operand is a weight only if the second is none: an initial state times a matrix is not."""
_AFFINE = {"Mul": Role.SCALE, "Add": Role.BIAS}
_LAYOUT = {
    *("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Slice", "Split"),
    *("QuantizeLinear", "DequantizeLinear", "Clip", "Expand"),
}
"""What leaves a weight a weight; a Clip limits the integers of one that is quantized."""
_MASKED = 1e4
"""An added constant this large masks attention: no bias."""


@dataclass(frozen=True)
class Reading:
    """One use of a stored tensor as a parameter: which node reads it, in which slot, perhaps
    through layout.
    """

    tensor: str
    node: Node
    slot: int
    role: Role

    @property
    def direct(self) -> bool:
        return self.node.inputs[self.slot] == self.tensor


def assign_roles(graph: Graph, stored: Mapping[str, Tensor]) -> dict[str, Role]:
    """A role for every stored tensor; a weight behind layout operators, Cast or a Q/DQ pair is found through
    them.
    """
    roles = dict.fromkeys(stored, Role.CONSTANT)
    for reading in readings(graph, stored):
        if roles[reading.tensor] is Role.CONSTANT:
            roles[reading.tensor] = reading.role
    return roles


def readings(graph: Graph, stored: Mapping[str, Tensor]) -> Iterator[Reading]:
    producers = {name: node for node in graph.walk() for name in node.outputs if name}

    def sources(name: str) -> list[str]:
        return list(_sources(name, producers, stored))

    for node in graph.walk():
        if node.domain:
            continue
        rules = [*_affine(node, graph, stored, sources), *ROLES.get(node.op_type, {}).items()]
        for slot, role in rules:
            if slot == 0 and node.op_type in _PRODUCTS and sources(node.inputs[1]):
                continue
            for name in sources(node.inputs[slot]) if node.has(slot) else ():
                if stored[name].is_floating_point() or role is Role.ZERO_POINT:
                    yield Reading(name, node, slot, role)


def _affine(
    node: Node, graph: Graph, stored: Mapping[str, Tensor], sources: Callable[[str], list[str]]
) -> Iterator[tuple[int, Role]]:
    """An Add or Mul of a feature map and a stored tensor of several elements. What is done to a graph input
    itself prepares the data and is no parameter.
    """
    if node.op_type not in _AFFINE:
        return
    for slot, other in ((0, 1), (1, 0)):
        tensors = [stored[name] for name in sources(node.inputs[slot])]
        prepares = node.inputs[other] in graph.inputs or bool(sources(node.inputs[other]))
        if tensors and not prepares and all(map(_learnt, tensors)):
            yield slot, _AFFINE[node.op_type]


def _learnt(tensor: Tensor) -> bool:
    return tensor.numel() > 1 and tensor.is_floating_point() and _finite(tensor)


def _finite(tensor: Tensor) -> bool:
    largest = float(tensor.abs().max().item())
    return math.isfinite(largest) and largest < _MASKED


def _sources(name: str, producers: Mapping[str, Node], stored: Mapping[str, Tensor]) -> Iterator[str]:
    """The stored tensors that reach `name` through layout alone; Concat joins several."""
    if name in stored:
        yield name
        return
    node = producers.get(name)
    if node is None:
        return
    if node.op_type == "Concat":
        branches = [list(_sources(part, producers, stored)) for part in node.inputs]
        if all(branches):
            yield from (part for branch in branches for part in branch)
    elif node.op_type in _LAYOUT:
        yield from _sources(node.inputs[0], producers, stored)
