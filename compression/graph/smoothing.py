"""Outliers of activations moved into the weights that read them (SmoothQuant). The function computed stays
the same.

The factors go into what makes the tensor, where that can take them and nobody else reads it: the scale and
shift of a normalisation, a constant, a layer. Else the readers get a copy of the tensor that a Mul divides.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from compression import mapped
from compression.graph import walk
from compression.graph.index import Index
from compression.kernels import smoothing

Floats = npt.NDArray[np.float32]
PAYS, PAYS_MUL = 0.95, 0.7
"""Shares of the noise that may be left for smoothing to be worth it: where it costs nothing, and where it
costs a Mul.
"""
SCALE_FREE = frozenset({"Relu", "LeakyRelu", "Identity"})


@dataclass(frozen=True)
class Seen:
    """Of a tensor [..., channels]: some of its rows, and the largest magnitude of each channel over all."""

    rows: Floats
    peaks: Floats


@dataclass(frozen=True)
class Rule:
    alphas: tuple[float, ...]
    uniform: bool
    """The same alpha for all."""
    bits: tuple[int, int]
    """Of weights and activations."""
    percentile: float


@dataclass(frozen=True, eq=False)
class Group:
    """The layers that read a tensor, whose last axis they sum over."""

    tensor: str
    readers: tuple[onnx.NodeProto, ...]

    def weight(self, index: Index) -> Floats:
        """Of all readers side by side, [channels, outputs]."""
        return np.concatenate([_inputs_first(node, _weight(node, index)) for node in self.readers], axis=1)


def groups(graph: onnx.GraphProto, nodes: Collection[str]) -> list[Group]:
    """Of the named nodes."""
    index = Index(graph)
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        if node.name in nodes and _smoothable(node, index):
            found[node.input[0]].append(node)
    return [
        Group(name, tuple(readers))
        for name, readers in found.items()
        if len({_channels(node, index) for node in readers}) == 1
    ]


def smooth(
    graph: onnx.GraphProto, found: Sequence[Group], seen: Mapping[str, Seen], rule: Rule
) -> tuple[list[dict[str, Any]], set[str]]:
    """In place, each group where it pays. Gives what was done, and the tensors that now hold other values.
    Sort the graph afterwards.
    """
    index = Index(graph)
    tried = {one.tensor: _noises(one, seen[one.tensor], index, rule) for one in found}
    best = _best(tried, rule)
    weights = {one.tensor: one.weight(index) for one in found}  # before any is changed
    details, scaled = [], set()
    for group in found:
        noises, chosen = tried[group.tensor], best[group.tensor]
        absorbed = absorber(group, index)
        left = noises[chosen] / max(noises[-1], 1e-300)
        if left < (PAYS_MUL if absorbed is None else PAYS):
            alpha = rule.alphas[chosen]
            by = smoothing.factors(seen[group.tensor].peaks, weights[group.tensor], alpha)
            scaled |= divide(group, by, absorbed, index)
            gained = round(-10 * float(np.log10(left)), 2)
            folded = absorbed is not None
            details.append({"tensor": group.tensor, "alpha": alpha, "gained_db": gained, "folded": folded})
    return details, scaled


def _noises(group: Group, seen: Seen, index: Index, rule: Rule) -> list[float]:
    weight = group.weight(index)
    return smoothing.noises(seen.rows, seen.peaks, weight, rule.alphas, rule.bits, rule.percentile)


def _best(tried: Mapping[str, Sequence[float]], rule: Rule) -> dict[str, int]:
    """Which alpha each takes."""
    if rule.uniform and tried:
        shares = [np.array(noises[:-1]) / max(noises[-1], 1e-300) for noises in tried.values()]
        return dict.fromkeys(tried, int(np.argmin(np.log(np.maximum(shares, 1e-30)).sum(0))))
    return {name: int(np.argmin(noises[:-1])) for name, noises in tried.items()}


def _smoothable(node: onnx.NodeProto, index: Index) -> bool:
    if node.op_type not in {"MatMul", "Gemm"} or walk.attribute(node, "transA", 0):
        return False
    weight = index.constant(node.input[1])
    single = len(index.consumers[node.input[1]]) == 1 and node.input[0] not in index.initializers
    return weight is not None and weight.ndim == 2 and single


def _weight(node: onnx.NodeProto, index: Index) -> Floats:
    return mapped.array(index.initializers[node.input[1]])


def _inputs_first(node: onnx.NodeProto, weight: Floats) -> Floats:
    return weight.T if walk.attribute(node, "transB", 0) else weight


def _channels(node: onnx.NodeProto, index: Index) -> int:
    return len(_inputs_first(node, _weight(node, index)))


@dataclass(frozen=True)
class Absorber:
    """An initializer whose axis takes the factors."""

    name: str
    axis: int = -1


@dataclass(frozen=True)
class Absorbed:
    absorbers: tuple[Absorber, ...]
    tensors: tuple[str, ...]
    """That then hold other values."""


def _absorbed(name: str, index: Index, readers: Collection[onnx.NodeProto]) -> Absorbed | None:
    """What can divide the tensor; None where something else reads it, or nothing can."""
    node = index.producer.get(name)
    if node is None or name in index.outputs or any(one not in readers for one in index.consumers[name]):
        return None
    if node.op_type in SCALE_FREE:
        return _then(name, (), _absorbed(node.input[0], index, [node]))
    own = list(_own(node, index))
    if not all(_is_free(one, index) for one in own):
        return None
    if node.op_type == "Add" and len(own) == 1:
        (other,) = (one for one in node.input if one != own[0].name)
        return _then(name, tuple(own), _absorbed(other, index, [node]))
    return Absorbed(tuple(own), (name,)) if own and node.op_type != "Add" else None


def absorber(group: Group, index: Index) -> Absorbed | None:
    """What takes the factors of a group at no cost; None where a Mul must."""
    absorbed = _absorbed(group.tensor, index, group.readers)
    channels = _channels(group.readers[0], index)
    values = [(index.constant(one.name), one.axis) for one in absorbed.absorbers] if absorbed else []
    fits = all(value is not None and value.shape[axis] == channels for value, axis in values)
    return absorbed if fits else None


def _then(name: str, own: tuple[Absorber, ...], before: Absorbed | None) -> Absorbed | None:
    return before and Absorbed((*own, *before.absorbers), (name, *before.tensors))


def _own(node: onnx.NodeProto, index: Index) -> Iterator[Absorber]:
    """Initializers that the node's output is proportional to, all together."""
    match node.op_type:
        case "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization":
            yield from (Absorber(name) for name in node.input[1:] if name)
        case "MatMul":
            yield Absorber(node.input[1])
        case "Gemm":
            yield Absorber(node.input[1], 0 if walk.attribute(node, "transB", 0) else -1)
            yield from (Absorber(name) for name in node.input[2:] if name)
        case "Mul" | "Add":
            yield from (Absorber(name) for name in node.input if name in index.initializers)


def _is_free(one: Absorber, index: Index) -> bool:
    """Has a value for each channel, and one reader."""
    value = index.constant(one.name)
    return value is not None and value.ndim > 0 and value.size > 1 and len(index.consumers[one.name]) == 1


def divide(group: Group, by: Floats, absorbed: Absorbed | None, index: Index) -> set[str]:
    """In place: what the readers read is divided by the factors, [channels], and their weights multiplied.
    Gives the tensors that now hold other values. Sort the graph afterwards.
    """
    for node in group.readers:
        weight = _weight(node, index)
        heavier = _inputs_first(node, weight) * by[:, None]
        index.replace(node.input[1], _inputs_first(node, heavier))
    if absorbed is None:
        _insert(group, by, index.graph)
        return set()
    for one in absorbed.absorbers:
        value = index.constant(one.name)
        if value is not None:
            index.replace(one.name, np.moveaxis(np.moveaxis(value, one.axis, -1) / by, -1, one.axis))
    return set(absorbed.tensors)


def _insert(group: Group, by: Floats, graph: onnx.GraphProto) -> None:
    name = f"{group.tensor}_smoothed"
    graph.initializer.append(numpy_helper.from_array(1 / by, f"{name}_factors"))
    graph.node.append(helper.make_node("Mul", [group.tensor, f"{name}_factors"], [name], name))
    values = (*graph.value_info, *graph.input, *graph.output)
    described = next((value for value in values if value.name == group.tensor), None)
    if described is not None:
        graph.value_info.add().CopyFrom(described)
        graph.value_info[-1].name = name
    for node in group.readers:
        node.input[0] = name
