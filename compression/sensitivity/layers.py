"""The layers of a network with what each costs, and the values that a change of one gives its weights."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from compression.dataset import Array
from compression.graph import macs, profile, shapes, walk, weight_rounding
from compression.graph.index import Index
from compression.kernels import masks, rounding

FLOAT = 4
"""Bytes."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Saved:
    """Of the whole network, for one sample; bytes are those of the file."""

    bytes: int = 0
    macs: int | None = 0
    """None: the shapes of the layer are unknown."""
    seconds: float = 0.0
    """Estimated: of the float network's profile, on one thread."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with a weight that it alone reads, in floats."""

    node: onnx.NodeProto
    weight: Floats
    macs: int | None
    seconds: float

    @property
    def name(self) -> str:
        return self.node.name

    def is_named(self, names: Collection[str]) -> bool:
        return not {self.node.name, *self.node.output, self.node.input[1]}.isdisjoint(names)

    @property
    def is_grouped(self) -> bool:
        return walk.attribute(self.node, "group", 1) != 1

    @cached_property
    def rows(self) -> Floats:
        """[outputs, whatever is summed over]."""
        axis = weight_rounding.output_axis(self.node, self.weight.ndim)
        return np.moveaxis(self.weight, axis, 0).reshape(self.weight.shape[axis], -1)

    def rounded(self, bits: int) -> Floats:
        """A scale for each output channel."""
        axis = weight_rounding.output_axis(self.node, self.weight.ndim)
        return rounding.round_trip(self.weight, rounding.weight_scales(self.weight, axis, bits), axis, bits)

    def zeroed(self, sparsity: float) -> Floats:
        """Without the smallest of its weights."""
        scores = masks.magnitudes(self.weight).ravel()
        gone = scores.argsort(kind="stable")[: round(sparsity * scores.size)]
        left = self.weight.copy()
        left.reshape(-1)[gone] = 0
        return left

    def truncated(self, share: float) -> Floats:
        """By singular values, to two factors that together have such a share of the weights."""
        left, values, right = np.linalg.svd(self.rows, full_matrices=False)
        rank = self.rank(share)
        rows = (left[:, :rank] * values[:rank]) @ right[:rank]
        axis = weight_rounding.output_axis(self.node, self.weight.ndim)
        order = (self.weight.shape[axis], *np.delete(self.weight.shape, axis))
        return np.ascontiguousarray(np.moveaxis(rows.reshape(order), 0, axis))

    def rank(self, share: float) -> int:
        outputs, inputs = self.rows.shape
        return int(share * outputs * inputs / (outputs + inputs))


def find(
    model: onnx.ModelProto, feeds: Mapping[str, Array], scratch: Path, exclude: Collection[str]
) -> list[Layer]:
    """In graph order. Errors: CompressionError E_MODEL_RUN."""
    index = Index(model.graph)
    known = shapes.infer(model, {name: value.shape for name, value in feeds.items()})
    seconds = profile.node_seconds(model, feeds, scratch)
    found = [
        Layer(node, weight, macs.count([node], known), seconds.get(node.name, 0.0))
        for node, weight in _weighted(index)
    ]
    return [layer for layer in found if not layer.is_named(exclude)]


def _weighted(index: Index) -> Iterator[tuple[onnx.NodeProto, Floats]]:
    for node in index.graph.node:
        weight = weight_rounding.layer_weight(node, index)
        if (
            weight is not None
            and weight.size >= weight_rounding.FEWEST
            and len(index.consumers[node.input[1]]) == 1
        ):
            yield node, weight


def overridable(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The model with weights that a run may feed, and that are as stored where it does not."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {value.name for value in opened.graph.input}
    for tensor in opened.graph.initializer:
        if tensor.name in names and tensor.name not in given:
            opened.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return opened
