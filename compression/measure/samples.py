"""Samples to measure on: the held-out split, or random ones where there is no data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from compression import runtime
from compression.dataset import Array, Dataset, Split
from compression.errors import CompressionError
from compression.inspection import TensorSpec
from compression.model import Model

_RANDOM = 32
_AXES = ((64, 16), (1, 1), (224, 512))
"""Sizes tried in turn for dynamic axes beyond the first: of inputs of rank 4 and more (images), and of others."""


@dataclass(frozen=True)
class Samples:
    split: Split
    warnings: tuple[str, ...] = ()


def of(model: Model, data: Path | None, seed: int) -> Samples:
    """Errors: CompressionError `dataset_misfit`, E_MODEL_RUN."""
    if data is None:
        return _random(model, seed)
    dataset = Dataset.open(data)
    split = dataset.split("test")
    if split is not None:
        return Samples(split)
    name, split = next(iter(dataset.splits.items()))
    return Samples(split, (f"the data set has no test split; measured on {name!r}",))


def _random(model: Model, seed: int) -> Samples:
    failure: CompressionError | None = None
    session = runtime.session(model.proto)
    for image, other in _AXES:
        split = random_split(model, image, other, np.random.default_rng(seed))
        try:
            next(runtime.run_split(session, split, model.inputs, size=1))
        except CompressionError as error:
            failure = failure or error
            continue
        shapes = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in split.arrays.items())
        return Samples(
            split, (f"no data set: measured on {split.n} random samples of a fixed seed ({shapes})",)
        )
    raise failure or CompressionError("E_MODEL_RUN", "no input sizes were found that the model runs with")


def random_split(model: Model, image: int, other: int, random: np.random.Generator) -> Split:
    """Dynamic axes beyond the first get `image` in inputs of rank 4 and more, else `other`; floats are normal, integers valid indices."""
    batched = (
        len({spec.shape[0] if spec.shape else None for spec in model.inputs}) == 1 and model.inputs[0].shape
    )
    arrays = {}
    for spec in model.inputs:
        size = image if len(spec.shape) >= 4 else other
        rest = [axis if isinstance(axis, int) else size for axis in spec.shape[1:]]
        first = [axis if isinstance(axis, int) else 1 for axis in spec.shape[:1]]
        shape = (_RANDOM, *rest) if batched else (_RANDOM, *first, *rest)
        arrays[spec.name] = _values(spec, shape, _bound(model.proto.graph, spec.name), random)
    return Split(arrays, None)


def _values(spec: TensorSpec, shape: Sequence[int], bound: int, random: np.random.Generator) -> Array:
    if "float" in spec.dtype:
        return random.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
    if spec.dtype == "string":
        return np.full(shape, "", dtype=object)
    return random.integers(0, bound, shape).astype(spec.dtype)


def _bound(graph: onnx.GraphProto, name: str) -> int:
    """Indices below it are valid: rows of the table that the input looks up; 2 where it looks up none."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    names = {name}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in names:
            names.add(node.output[0])
    tables = [
        rows.get(node.input[0], 0)
        for node in graph.node
        if node.op_type == "Gather" and node.input[1] in names
    ]
    return min((count for count in tables if count), default=2)


def first(split: Split, inputs: Sequence[TensorSpec], count: int) -> Iterator[dict[str, Array]]:
    """Feeds of one sample each, or of as many as the model fixes; at most `count`, none of them short."""
    size = split.batch_size(inputs, 1)
    for start, feeds in zip(range(0, count * size, size), split.batches(inputs, 1), strict=False):
        if start + size <= split.n:
            yield feeds
