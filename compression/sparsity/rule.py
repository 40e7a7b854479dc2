"""Which weights of a network become zero."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from compression.graph.layers import Layer, Layers
from compression.kernels import masks
from compression.sparsity.options import Block, NOfM, Pattern, Unstructured

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """How weights are ranked, and which may go together."""

    pattern: Pattern
    scope: Literal["layer", "global"]
    criterion: Literal["l1", "random"]
    seed: int

    def choose(
        self, layers: Sequence[Layer], weights: Mapping[str, Array], sparsity: float
    ) -> Iterator[tuple[str, masks.Mask]]:
        """By weight, each as its weight is stored. True stays."""
        scores = [
            partial(self._scores, layer.view(weights[layer.weight]), index)
            for index, layer in enumerate(layers)
        ]
        for layer, mask in zip(layers, self._chosen(scores, sparsity), strict=True):
            yield layer.weight, self._stored(layer, mask, weights[layer.weight].shape)

    def _scores(self, weight: Array, index: int) -> masks.Scores:
        scores = (
            masks.magnitudes(weight) if self.criterion == "l1" else masks.random(weight, (self.seed, index))
        )
        return masks.block_means(scores, self.pattern.shape) if isinstance(self.pattern, Block) else scores

    def _chosen(self, scores: Sequence[Callable[[], masks.Scores]], sparsity: float) -> Iterator[masks.Mask]:
        match self.pattern:
            case NOfM(n=n, m=m):
                stay = max(n, round(m * (1 - sparsity)))
                return (masks.n_of_m(score(), stay, m) for score in scores)
            case Unstructured() | Block():
                if self.scope == "global":
                    return masks.largest(scores, sparsity)
                return (mask for score in scores for mask in masks.largest([score], sparsity))

    def _stored(self, layer: Layer, mask: masks.Mask, shape: tuple[int, ...]) -> masks.Mask:
        stored = np.empty(shape, np.bool_)
        view = layer.view(stored)
        if isinstance(self.pattern, Block):
            mask = masks.of_blocks(mask, self.pattern.shape, view.shape)
        view[...] = mask
        return stored


def prune(layers: Layers, chosen: Sequence[Layer], rule: Rule, sparsity: float) -> None:
    """Zeros, in place."""
    weights = {layer.weight: numpy_helper.to_array(layers.stored[layer.weight]) for layer in chosen}
    for name, mask in rule.choose(chosen, weights, sparsity):
        _store(layers.stored[name], np.where(mask, weights[name], weights[name].dtype.type(0)))


def tidy(layers: Layers, chosen: Sequence[Layer]) -> dict[str, Any]:
    """Makes -0.0, which folding leaves, the 0.0 of all other zeros: a download shrinks by a repeated pattern.
    Returns what there is in zeros, as JSON.
    """
    zeros: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for layer in chosen:
        array = numpy_helper.to_array(layers.stored[layer.weight])
        if np.signbit(array[array == 0]).any():
            array = array + array.dtype.type(0)
            _store(layers.stored[layer.weight], array)
        zeros[layer.weight], sizes[layer.weight] = array.size - int(np.count_nonzero(array)), array.size
    return {
        "sparsity": sum(zeros.values()) / sum(sizes.values()),
        "pruned_params": sum(sizes.values()),
        "layers": {name: round(count / sizes[name], 4) for name, count in zeros.items()},
        "left_out": [layer.weight for layer in layers.all if layer not in chosen],
    }


def _store(tensor: onnx.TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
