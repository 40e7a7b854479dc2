"""Changes of one layer's weights, or of one group's channels, that a session tries by feeding the weights."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import onnx

from compression.dataset import Array
from compression.graph import channels, macs
from compression.graph.channels import Channels, Group
from compression.graph.index import Index
from compression.graph.shapes import Shape
from compression.kernels import importance
from compression.sensitivity.layers import FLOAT, Layer, Saved

RATIOS = (0.25, 0.5, 0.75)
SPARSITIES = (0.5, 0.8)
SHARE = 0.5
"""Of the weights that two factors of a matrix have together."""


@dataclass(frozen=True)
class Change:
    layer: str
    """Name of its node; of a group, the weight that it is named after."""
    technique: str
    setting: Mapping[str, float]
    saved: Saved
    make: Callable[[], Mapping[str, Array]]
    """New values of weights."""


def fewer_bits(layer: Layer, bits: Collection[int]) -> Iterator[Change]:
    """Weights alone, a scale for each output channel."""
    for own in sorted(set(bits)):
        saved = Saved(layer.weight.size * FLOAT - layer.weight.size * own // 8 - len(layer.rows) * FLOAT)
        yield _of(layer, "weight_quantization", {"bits": own}, saved, partial(layer.rounded, own))


def zeros(layer: Layer) -> Iterator[Change]:
    """A smaller download: neither the file nor the time of a dense kernel changes."""
    for sparsity in SPARSITIES:
        values = partial(layer.zeroed, sparsity)
        yield _of(layer, "magnitude_pruning", {"sparsity": sparsity}, Saved(), values)


def low_rank(layer: Layer) -> Iterator[Change]:
    """By singular values of the weight alone: the technique, which looks at activations too, loses less."""
    if layer.rank(SHARE) < 1 or layer.is_grouped:
        return
    count = None if layer.macs is None else int(layer.macs * (1 - SHARE))
    saved = Saved(int(layer.weight.size * FLOAT * (1 - SHARE)), count, layer.seconds * (1 - SHARE))
    yield _of(layer, "low_rank", {"share": SHARE}, saved, lambda: layer.truncated(SHARE))


def _of(
    layer: Layer, technique: str, setting: Mapping[str, float], saved: Saved, values: Callable[[], Array]
) -> Change:
    return Change(layer.name, technique, setting, saved, lambda: {layer.node.input[1]: values()})


@dataclass(frozen=True, eq=False)
class Cuts:
    """Channels cut out of each group alone: the smallest by the norm of their weights; nothing is corrected
    afterwards.
    """

    looked: Channels
    layers: Sequence[Layer]

    def __iter__(self) -> Iterator[Change]:
        for group in self.looked.groups:
            yield from self.of(group)

    def of(self, group: Group) -> Iterator[Change]:
        order = np.argsort(_importance(group, self._index), kind="stable")
        for ratio in RATIOS:
            count = min(round(group.size * ratio), group.size - 1)
            if count:
                gone = np.sort(order[:count])
                make = partial(_without, group, gone, self._index)
                saved = self._saved(group, gone)
                yield Change(group.name, "channel_pruning", {"ratio": ratio}, saved, make)

    @cached_property
    def _index(self) -> Index:
        return Index(self.looked.model.graph)

    def _saved(self, group: Group, gone: Array) -> Saved:
        kept = {group.name: np.setdiff1d(np.arange(group.size), gone).tolist()}
        before, after = (channels.cost(self.looked, units) for units in ({}, kept))
        fewer = None if before[0] is None or after[0] is None else before[0] - after[0]
        sizes = channels.sizes(self.looked, channels.masks(self.looked, kept))
        seconds = sum(layer.seconds * (1 - _share(layer, sizes)) for layer in self.layers)
        return Saved((before[1] - after[1]) * FLOAT, fewer, seconds)


def _importance(group: Group, index: Index) -> Array:
    parts = []
    for one in (*group.produced, *group.contracted):
        weight = index.constant(one.tensor)
        if weight is not None:
            parts.append(importance.of_units(importance.norms(weight, one.axis, 2), one.indices))
    return importance.combined(parts, group.size)


def _without(group: Group, gone: Array, index: Index) -> dict[str, Array]:
    """Zeros where weights sum over the units: as good as a cut."""
    found: dict[str, Array] = {}
    for one in group.contracted:
        weight = index.constant(one.tensor)
        if weight is not None:
            values = found.setdefault(one.tensor, weight.copy())
            np.moveaxis(values, one.axis, 0)[one.indices[gone].ravel()] = 0
    return found


def _share(layer: Layer, sizes: Mapping[str, tuple[int, ...]]) -> float:
    """What is left of a layer's work."""
    node: onnx.NodeProto = layer.node
    known = {name: Shape(0, sizes[name]) for name in (*node.input, *node.output) if name in sizes}
    after = macs.count([node], known)
    return 1.0 if not layer.macs or after is None else after / layer.macs
