"""Which values the weights of a network share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from compression.graph.layers import Array, Layer, Layers
from compression.kernels import clustering


@dataclass(frozen=True)
class Rule:
    """How the values of a layer are found."""

    clusters: int
    start: clustering.Start
    entropy_penalty: float
    preserve_sparsity: bool
    seed: int

    def cluster(self, weight: Array, index: int) -> Array:
        """The weight with every number replaced by the centroid of its cluster; `index` is that of the layer.
        Zeros, where they are preserved, are a cluster of their own.
        """
        flat = weight.reshape(-1)
        moved = np.flatnonzero(flat) if self.preserve_sparsity else np.arange(flat.size)
        shared = np.zeros_like(flat)
        if moved.size:
            random = np.random.default_rng((self.seed, index))
            clusters = self.clusters - (moved.size < flat.size)
            found = clustering.fit(flat[moved], clusters, self.start, random, self.entropy_penalty)
            shared[moved] = found.centroids[found.assign(flat[moved])]
        return shared.reshape(weight.shape)


def cluster(layers: Layers, chosen: Sequence[Layer], rule: Rule) -> dict[str, float]:
    """Clusters these, in place; by weight the squared error over the sum of squares."""
    errors = {}
    for index, layer in enumerate(chosen):
        before = _array(layers.stored[layer.weight])
        after = rule.cluster(before, index)
        layers.stored[layer.weight].CopyFrom(numpy_helper.from_array(after, layer.weight))
        energy = float(np.square(before, dtype=np.float64).sum())
        errors[layer.weight] = float(np.square(after - before, dtype=np.float64).sum()) / (energy or 1.0)
    return errors


def measured(layers: Layers, chosen: Sequence[Layer]) -> dict[str, Any]:
    """What there is in values, as JSON. The entropy is what a weight costs in bits if values are coded by how
    often they occur.
    """
    counts = {
        layer.weight: np.unique(_array(layers.stored[layer.weight]), return_counts=True)[1]
        for layer in chosen
    }
    sizes = {name: int(count.sum()) for name, count in counts.items()}
    total = sum(sizes.values())
    bits = {name: _entropy(count) for name, count in counts.items()}
    return {
        "clustered_params": total,
        "entropy_bits": round(sum(bits[name] * sizes[name] for name in sizes) / total, 4),
        "layer_values": {name: len(count) for name, count in counts.items()},
        "left_out": [layer.weight for layer in layers.all if layer not in chosen],
    }


def _entropy(counts: Array) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _array(tensor: TensorProto) -> Array:
    return numpy_helper.to_array(tensor)
