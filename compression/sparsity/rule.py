"""Which weights of a network become zero."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
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
    criterion: Literal["lamp", "l1", "random"]
    seed: int

    def choose(
        self, layers: Sequence[Layer], weights: Mapping[str, Array], sparsity: float
    ) -> Iterator[tuple[str, masks.Mask]]:
        """By weight, each as its weight is stored; True stays. Scores of all weights exist at once only where
        they are ranked together.
        """
        views = [layer.view(weights[layer.weight]) for layer in layers]
        scores = (self._scores(view, index) for index, view in enumerate(views))
        for layer, view, mask in zip(layers, views, self._chosen(scores, sparsity), strict=True):
            yield layer.weight, self._stored(layer, mask, view)

    def _scores(self, view: Array, index: int) -> masks.Scores:
        random = self.criterion == "random"
        scores = masks.random(view, (self.seed, index)) if random else masks.magnitudes(view)
        if isinstance(self.pattern, Block):
            scores = masks.block_means(scores, self.pattern.shape)
        together = self.criterion == "lamp" and self.scope == "global"
        return masks.lamp(scores) if together and not isinstance(self.pattern, NOfM) else scores

    def _chosen(self, scores: Iterator[masks.Scores], sparsity: float) -> Iterator[masks.Mask]:
        match self.pattern:
            case NOfM(n=n, m=m):
                stay = max(n, round(m * (1 - sparsity)))
                return (masks.n_of_m(score, stay, m) for score in scores)
            case Unstructured() | Block():
                if self.scope == "global":
                    return masks.largest(list(scores), sparsity)
                return (mask for score in scores for mask in masks.largest([score], sparsity))

    def _stored(self, layer: Layer, mask: masks.Mask, view: Array) -> masks.Mask:
        if isinstance(self.pattern, Block):
            mask = masks.of_blocks(mask, self.pattern.shape, view.shape)
        return np.ascontiguousarray(np.moveaxis(mask, (-2, -1), layer.axes))


def prune(layers: Layers, chosen: Sequence[Layer], rule: Rule, sparsity: float) -> int:
    """Zeros, in place; how many weights were not zero before. Folding may leave a -0.0, which becomes 0.0:
    what repeats compresses.
    """
    weights = {layer.weight: numpy_helper.to_array(layers.stored[layer.weight]) for layer in chosen}
    lost = 0
    for name, mask in rule.choose(chosen, weights, sparsity):
        pruned = np.where(mask, weights[name], weights[name].dtype.type(0))
        lost += int(np.count_nonzero(weights[name]) - np.count_nonzero(pruned))
        layers.stored[name].CopyFrom(numpy_helper.from_array(pruned, name))
    return lost


def measured(layers: Layers, chosen: Sequence[Layer]) -> dict[str, Any]:
    """What there is in zeros, as JSON."""
    arrays = {layer.weight: numpy_helper.to_array(layers.stored[layer.weight]) for layer in chosen}
    zeros = {name: array.size - int(np.count_nonzero(array)) for name, array in arrays.items()}
    size = sum(array.size for array in arrays.values())
    return {
        "sparsity": sum(zeros.values()) / size,
        "pruned_params": size,
        "layer_sparsity": {name: round(count / arrays[name].size, 4) for name, count in zeros.items()},
        "left_out": [layer.weight for layer in layers.all if layer not in chosen],
    }
