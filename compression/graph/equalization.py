"""Cross-layer equalisation (Nagel et al. 2019, arXiv:1906.04721): channels of one tensor brought to like
magnitude, the factors moved into the layers around it. Here the magnitudes are those of the activations, as
seen in calibration.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from compression.graph import walk
from compression.graph.index import Index
from compression.kernels.clustering import shared

Floats = npt.NDArray[np.float32]

SCALE_FREE = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Clip"})
"""f(s x) = s f(x) for s > 0; a Clip only while it does not clip."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
LARGEST_FACTOR = 256.0
HEADROOM = 2.0
"""A Clip limits a scaled channel at no less than so many times the largest value seen in calibration."""
STEPS = 255.0


@dataclass
class Group:
    """Tensors whose channels must carry the same factors, with the layers that write and read them."""

    tensors: list[str] = field(default_factory=list)
    producers: list[onnx.NodeProto] = field(default_factory=list)
    consumers: list[onnx.NodeProto] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    """Upper bounds of the Clips, by output."""
    frozen: bool = False


def equalize(graph: onnx.GraphProto, bounds: Mapping[str, Floats]) -> list[list[str]]:
    """Scales the weights in place, where the expected rounding noise of the layers shrinks; `bounds` are
    the largest magnitudes by tensor and channel. The function computed stays the same for every input whose
    activations are less than twice the calibrated ones. Returns the tensors of each group that was
    scaled.
    """
    index = Index(graph)
    scaled: list[Group] = []
    for group in groups(graph):
        bound = _bound(group, bounds)
        if bound is None or group.frozen:
            continue
        factors = _best(group, bound, index)
        if factors is not None:
            _scale(group, factors, index)
            scaled.append(group)
    return [group.tensors for group in scaled]


def rename(graph: onnx.GraphProto, scaled: Collection[str]) -> None:
    """Other values under an old name would be compared with the original's, layer by layer."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}_equalized" if name in scaled else name for name in names]


def tensors(graph: onnx.GraphProto) -> list[str]:
    """Those whose magnitudes decide: what the layers read that a group could scale."""
    found = [group for group in groups(graph) if not group.frozen and group.producers and group.consumers]
    return list(dict.fromkeys(node.input[0] for group in found for node in group.consumers))


def groups(graph: onnx.GraphProto) -> Iterator[Group]:
    index = Index(graph)
    root = _union(graph)
    found: dict[str, Group] = defaultdict(Group)
    for node in graph.node:
        for name in node.output:
            found[root(name)].tensors.append(name)
        _place(node, index, root, found)
    for value in (*graph.input, *graph.output):
        found[root(value.name)].frozen = True
    yield from found.values()


def _union(graph: onnx.GraphProto) -> "_Roots":
    root = _Roots()
    for node in graph.node:
        if node.op_type in SCALE_FREE:
            for name in _data(node):
                root.join(name, node.output[0])
    return root


def _data(node: onnx.NodeProto) -> Sequence[str]:
    return list(node.input if node.op_type == "Add" else node.input[:1])


class _Roots:
    """Union-find over names."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        while name in self.parent:
            name = self.parent[name]
        return name

    def join(self, first: str, second: str) -> None:
        first, second = self(first), self(second)
        if first != second:
            self.parent[second] = first


def _place(node: onnx.NodeProto, index: Index, root: _Roots, found: dict[str, Group]) -> None:
    """Enters the node as producer, consumer or Clip of its groups; what cannot be scaled freezes them."""
    if node.op_type == "Conv" and _scalable(node, index):
        found[root(node.output[0])].producers.append(node)
        found[root(node.input[0])].consumers.append(node)
    elif node.op_type == "Clip" and _bounds_of_relu(node, index):
        limit = index.scalar(node.input[2]) if len(node.input) > 2 else None
        found[root(node.output[0])].limits[node.output[0]] = np.inf if limit is None else limit
    elif node.op_type not in SCALE_FREE - {"Clip"} or set(_data(node)) & set(index.initializers):
        for name in (*walk.reads(node), *node.output):
            found[root(name)].frozen = True


def _bounds_of_relu(clip: onnx.NodeProto, index: Index) -> bool:
    return len(clip.input) > 1 and index.scalar(clip.input[1]) == 0


def _scalable(conv: onnx.NodeProto, index: Index) -> bool:
    """Weights at hand and nobody else's; dense or depthwise. Channels that share a few values would lose
    them.
    """
    constants = [name for name in conv.input[1:] if name]
    if any(name not in index.initializers or len(index.consumers[name]) > 1 for name in constants):
        return False
    weight = index.constant(conv.input[1])
    if weight is None or weight.ndim != 4 or shared(weight):
        return False
    return _groups(conv) == 1 or depthwise(conv, weight)


def _groups(conv: onnx.NodeProto) -> int:
    groups_ = walk.attribute(conv, "group", 1)
    return groups_ if isinstance(groups_, int) else 1


def depthwise(conv: onnx.NodeProto, weight: Floats) -> bool:
    return bool(_groups(conv) == weight.shape[0] and weight.shape[1] == 1)


def _bound(group: Group, bounds: Mapping[str, Floats]) -> Floats | None:
    """The largest magnitude of each channel over the tensors of the group."""
    known = [bounds[name] for name in group.tensors if name in bounds]
    if not known or not group.producers or not group.consumers or len({len(bound) for bound in known}) > 1:
        return None
    bound: Floats = np.max(known, axis=0)
    return bound if bound.max() > 0 else None


def _best(group: Group, bound: Floats, index: Index) -> Floats | None:
    """Factors of the strength with the least expected noise; None if scaling does not pay."""
    candidates = [_factors(group, bound, strength) for strength in STRENGTHS]
    noises = [_noise(group, bound, factors, index) for factors in candidates]
    chosen = int(np.argmin(noises))
    return candidates[chosen] if noises[chosen] < 0.98 * noises[0] else None


def _factors(group: Group, bound: Floats, strength: float) -> Floats:
    peak = bound.max()
    factors = (peak / np.maximum(bound, peak / LARGEST_FACTOR)) ** strength
    limit = min(group.limits.values(), default=np.inf)
    if np.isfinite(limit):
        factors = np.minimum(factors, np.maximum(limit / (HEADROOM * np.maximum(bound, limit / 1e6)), 1.0))
    return np.asarray(factors, np.float32)


def _noise(group: Group, bound: Floats, factors: Floats, index: Index) -> float:
    """Rounding noise / signal, mean over the consumers' output channels, every channel at its bound."""
    scaled = bound * factors
    step = scaled.max() / STEPS
    total = 0.0
    for node in group.consumers:
        weight = index.constant(node.input[1])
        if weight is not None:
            rows = np.abs(_columns(node, weight, np.reciprocal(factors))).reshape(
                len(weight), weight.shape[1], -1
            )
            reach = scaled[:, None] if depthwise(node, weight) else scaled[None]
            power = np.square(rows).sum(2)
            weight_step = rows.max((1, 2)) / (STEPS / 2)
            noise = power.sum(1) * step**2 + weight_step**2 * np.square(reach).sum(1) * rows.shape[2]
            total += float(np.mean(noise / np.maximum((power * np.square(reach)).sum(1), 1e-20)))
    return total


def _columns(conv: onnx.NodeProto, weight: Floats, factors: Floats) -> Floats:
    """The weight with its input channels multiplied."""
    shape = (-1, 1, 1, 1) if depthwise(conv, weight) else (1, -1, 1, 1)
    scaled: Floats = weight * factors.reshape(shape)
    return scaled


def _scale(group: Group, factors: Floats, index: Index) -> None:
    for node in group.producers:
        for name in filter(None, node.input[1:]):
            values = index.constant(name)
            if values is not None:
                index.replace(name, values * factors.reshape(-1, *(1,) * (values.ndim - 1)))
    for node in group.consumers:
        weight = index.constant(node.input[1])
        if weight is not None:
            index.replace(node.input[1], _columns(node, weight, np.reciprocal(factors)))
