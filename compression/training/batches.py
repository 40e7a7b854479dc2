"""Batches: which samples a step sees, and their tensors. Each is a function of seed and step alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compression import fit
from compression.dataset import Array, Split
from compression.errors import CompressionError
from compression.inspection import TensorSpec
from compression.training.options import Augmentation

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    indices: Indices
    """Rows of the split, ascending: rows near each other are read together."""
    inputs: Mapping[str, Tensor]
    labels: Tensor | None
    teacher: Mapping[str, Tensor] | None
    """The teacher's outputs for the same inputs."""

    def __len__(self) -> int:
        return len(self.indices)

    def check_finite(self) -> None:
        """Errors: CompressionError E_NUMERIC."""
        for name, values in self.inputs.items():
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise CompressionError(
                    "E_NUMERIC", f"training samples hold NaN or infinity in {name!r}: repair or remove them"
                )

    def parts(self, size: int) -> Iterator["Batch"]:
        """At most `size` samples each, every part from all over the batch: neighbours in the data set may be
        of one kind.
        """
        count = -(-len(self) // size)
        for part in range(count):
            yield self if count == 1 else self._part(slice(part, None, count))

    def _part(self, cut: slice) -> "Batch":
        return Batch(
            self.indices[cut],
            {name: value[cut] for name, value in self.inputs.items()},
            None if self.labels is None else self.labels[cut],
            None if self.teacher is None else {n: self._cut(v, cut) for n, v in self.teacher.items()},
        )

    def _cut(self, value: Tensor, cut: slice) -> Tensor:
        return value[cut] if sample_axis(value.shape, len(self)) == 0 else value[:, cut]


def sample_axis(shape: Sequence[int], samples: int) -> int:
    """The axis of an output that counts samples: the second, if not the first, as in [T, N, C]."""
    return 1 if len(shape) > 1 and shape[0] != samples == shape[1] else 0


Teach = Callable[[Indices, Mapping[str, Tensor]], Mapping[str, Tensor]]


def number(seed: Sequence[int]) -> int:
    """By chance, the same for the same seed."""
    return int(np.random.default_rng(seed).integers(1 << 62))


class Batches:
    """The samples of a split that are trained on, in another order each epoch.

    `fixed` is the batch that the model fixes, else 0; a batch here is some of those.

    Errors: CompressionError `too_few_samples` where there are fewer than the model takes at once.
    """

    def __init__(  # noqa: PLR0913  what a batch is made of
        self,
        *,
        split: Split,
        inputs: Sequence[TensorSpec],
        indices: Indices,
        size: int,
        seed: int,
        augmentation: Augmentation | None = None,
        teach: Teach | None = None,
    ) -> None:
        self.split, self.inputs, self.seed = split, inputs, seed
        self._arrays = split.feeds(inputs)
        self.fixed = split.batch_size(inputs, 0)
        self.size = _size(size, self.fixed, len(indices))
        if any(fit.layout(spec, self._arrays[spec.name].shape) == "single" for spec in inputs):
            self.size = 1
        self.per_epoch = len(indices) // self.size
        self._indices, self._order = indices, (-1, indices)
        self._augmentation = augmentation if augmentation is not None and augmentation.active else None
        self._teach = teach

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of these steps; the next one is made while the last is in use."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.of_step, start) if start < stop else None
            for step in range(start, stop):
                assert coming is not None  # noqa: S101  for the type checker
                batch = coming.result()
                coming = pool.submit(self.of_step, step + 1) if step + 1 < stop else None
                yield batch

    def of_step(self, step: int) -> Batch:
        epoch, at = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self._indices)
        return self.of(np.sort(self._order[1][at * self.size : (at + 1) * self.size]), step)

    def of(self, indices: Indices, step: int | None = None) -> Batch:
        """Of these samples, unchanged unless a step is given."""
        inputs = {
            spec.name: torch.from_numpy(_rows(self._arrays[spec.name], spec, indices)) for spec in self.inputs
        }
        if self._augmentation is not None and step is not None:
            generator = torch.Generator().manual_seed(number((self.seed, step, 1)))
            inputs = {name: augmented(value, self._augmentation, generator) for name, value in inputs.items()}
        labels = None if self.split.labels is None else _labels(self.split.labels[indices])
        return Batch(indices, inputs, labels, None if self._teach is None else self._teach(indices, inputs))


def _size(wanted: int, fixed: int, samples: int) -> int:
    """Of a batch: a multiple of what the model fixes."""
    if samples < fixed:
        raise CompressionError(
            "too_few_samples", f"the model takes {fixed} samples at once; there are {samples} to train on"
        )
    size = min(max(wanted, fixed), samples)
    return size - size % fixed if fixed else size


def _labels(rows: Array) -> Tensor:
    """Indices as int64: torch compares no small unsigned integers."""
    return torch.from_numpy(np.array(rows, np.int64 if rows.dtype.kind in "iu" else None))


def _rows(array: Array, spec: TensorSpec, indices: Indices) -> npt.NDArray[Any]:
    rows = np.array(array[indices], dtype=spec.dtype)
    return rows[0] if fit.layout(spec, array.shape) == "single" else rows


def augmented(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Each image moved and mirrored by chance; tensors of another rank stay."""
    if images.dim() != 4 or not images.is_floating_point():
        return images
    count, _, height, width = images.shape
    rows = _moved(count, height, how.shift, generator)
    columns = _moved(count, width, how.shift, generator)
    if how.horizontal_flip:
        columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (how.shift,) * 4)
    samples = torch.arange(count)[:, None, None]
    return (
        padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _moved(count: int, size: int, shift: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2 * shift + 1, (count, 1), generator=generator) + torch.arange(size)
