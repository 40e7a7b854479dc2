"""Samples to run a model on: of its data set, or random ones where there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compression import runtime
from compression.dataset import Array, Dataset, Split
from compression.errors import CompressionError
from compression.graph import lookups
from compression.inspection import TensorSpec
from compression.model import Model

_RANDOM = 32
_AXES = ((64, 16), (1, 1), (224, 512))
"""Sizes tried in turn for dynamic axes beyond the first: of inputs of rank 4 and more (images), and of
others.
"""


@dataclass(frozen=True)
class Samples:
    split: Split
    warnings: tuple[str, ...] = ()


def held_out(model: Model, data: Dataset | None, seed: int) -> Samples:
    """The test split, or what comes nearest to one.

    Errors: CompressionError E_MODEL_RUN.
    """
    if data is None:
        return made_up(model, seed)
    split = data.split("test")
    if split is not None:
        return Samples(split)
    name, split = next(iter(data.splits.items()))
    return Samples(split, (f"the data set has no test split; measured on {name!r}",))


def looked_at(model: Model, data: Dataset | None, seed: int) -> Split:
    """What a technique tells from where a model has something to spare: the calibration split, else the
    train split, else random samples.

    Errors: CompressionError E_MODEL_RUN.
    """
    split = (data.split("calibration") or data.split("train")) if data is not None else None
    return split or made_up(model, seed).split


def made_up(model: Model, seed: int) -> Samples:
    """Random samples of a shape that the model runs with.

    Errors: CompressionError E_MODEL_RUN.
    """
    failure: CompressionError | None = None
    session = runtime.session(model.outline)
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
    """Dynamic axes beyond the batch get `image` in inputs of rank 4 and more, else `other`.

    Floats are normal, integers are valid indices.
    """
    batch = {spec.shape[0] for spec in model.inputs if spec.shape}
    inner = {axis for spec in model.inputs for axis in spec.shape[1:] if isinstance(axis, str)}
    batched = len(batch) == 1 and all(spec.shape for spec in model.inputs) and not batch & inner
    arrays = {}
    for spec in model.inputs:
        size = image if len(spec.shape) >= 4 else other
        sizes = [_size(axis, 1 if at == 0 or axis in batch else size) for at, axis in enumerate(spec.shape)]
        shape = (_RANDOM, *(sizes[1:] if batched else sizes))
        arrays[spec.name] = _values(spec, shape, lookups.rows(model.outline.graph, spec.name) or 2, random)
    return Split(arrays, None)


def _size(axis: int | str | None, dynamic: int) -> int:
    return axis if isinstance(axis, int) else dynamic


def _values(spec: TensorSpec, shape: Sequence[int], bound: int, random: np.random.Generator) -> Array:
    if "float" in spec.dtype:
        return random.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
    if spec.dtype == "string":
        return np.full(shape, "", dtype=object)
    return random.integers(0, bound, shape).astype(spec.dtype)


def first(split: Split, inputs: Sequence[TensorSpec], count: int) -> Iterator[dict[str, Array]]:
    """Feeds of one sample each, or of as many as the model fixes; at most `count`, none of them short."""
    size = split.batch_size(inputs, 1)
    for start, feeds in zip(range(0, count * size, size), split.batches(inputs, 1), strict=False):
        if start + size <= split.n:
            yield feeds


def difference(one: Model, other: Model, split: Split, count: int = 8) -> float:
    """Largest difference between outputs over the first samples, relative to an output's largest value or, if
    that is below 1, to 1.

    Infinite where a shape differs or only one is finite.

    Errors: CompressionError E_MODEL_RUN.
    """
    sessions = runtime.session(one.outline), runtime.session(other.outline)
    worst = 0.0
    for feeds in first(split, one.inputs, count):
        results = runtime.run(sessions[0], feeds), runtime.run(sessions[1], feeds)
        worst = max([worst, *(_relative(results[0][name], results[1][name]) for name in results[0])])
    return worst


def _relative(one: Array, other: Array) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else float("inf")
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    values = np.nan_to_num(one), np.nan_to_num(other)
    return float(np.abs(values[0] - values[1]).max(initial=0) / max(np.abs(values[0]).max(initial=0), 1.0))
