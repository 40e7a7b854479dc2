"""Teacher: the outputs a student learns from. Each sample is run once, by the plain runtime."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from compression import runtime
from compression.dataset import Array, Split
from compression.model import Model
from compression.technique import Report
from compression.training.batches import Indices, sample_axis

_BATCH = 128
_LARGEST = 2 << 30
"""Bytes of outputs that are kept; more are computed again each time."""


_INDEX = "axes.json"


class Teacher:
    """Called with samples, gives its floating-point outputs for them.

    After `remember` they come from files, where each sample's were written once; else, as augmented inputs
    need, each batch is run as it comes.
    """

    def __init__(self, model: Model, split: Split, threads: int) -> None:
        self._model, self._split = model, split
        self._session = runtime.session(model.proto, threads=threads)
        self._size = split.batch_size(model.inputs, _BATCH)
        self._kept: _Kept | None = None

    def remember(self, scratch: Path, report: Report) -> None:
        """Writes its outputs for all samples into `scratch`, unless this very model's are there already.

        Does nothing where outputs are too large, or their shapes differ from batch to batch.

        Errors: CompressionError E_MODEL_RUN.
        """
        folder = scratch / f"teacher-{self._model.sha256}"
        self._kept = _Kept.open(folder) or self._written(folder, report)

    def _written(self, folder: Path, report: Report) -> "_Kept | None":
        kept: _Kept | None = None
        done = 0
        for outputs in runtime.run_split(self._session, self._split, self._model.inputs, size=_BATCH):
            count = min(self._size, self._split.n - done)
            floats = {name: value for name, value in _floats(outputs).items() if value.ndim}
            kept = kept or _Kept.create(folder, floats, count, self._split.n)
            if kept is None or not kept.put(done, count, floats):
                return None
            done += count
            report(0.0, "running the original on the training samples", {"samples": done})
        if kept is not None:
            (folder / _INDEX).write_text(json.dumps(kept.axes))
        return kept

    def __call__(self, indices: Indices, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._kept is not None:
            return self._kept.get(indices)
        count = len(indices)
        if self._size >= count:
            return self._run(inputs)
        cuts = [slice(start, start + self._size) for start in range(0, count, self._size)]
        parts = [self._run({name: value[cut] for name, value in inputs.items()}) for cut in cuts]
        return {
            name: torch.cat([part[name] for part in parts], sample_axis(value.shape, self._size))
            for name, value in parts[0].items()
        }

    def _run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        feeds = {name: value.numpy() for name, value in inputs.items()}
        outputs = _floats(runtime.run(self._session, feeds))
        return {name: torch.from_numpy(value) for name, value in outputs.items()}


def _floats(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value for name, value in outputs.items() if value.dtype.kind == "f"}


@dataclass(frozen=True)
class _Kept:
    """Outputs in files, samples first."""

    arrays: Mapping[str, Array]
    axes: Mapping[str, int]
    """Where an output has its samples."""

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        if not (folder / _INDEX).exists():
            return None
        axes = json.loads((folder / _INDEX).read_text())
        return cls({name: np.load(folder / f"{at}.npy", "r") for at, name in enumerate(axes)}, axes)

    @classmethod
    def create(cls, folder: Path, first: Mapping[str, Array], count: int, samples: int) -> Self | None:
        """For so many samples; `first` are the outputs of `count` of them. None if they are too large."""
        axes = {name: sample_axis(value.shape, count) for name, value in first.items()}
        shapes = {
            name: (samples, *np.moveaxis(value, axes[name], 0).shape[1:]) for name, value in first.items()
        }
        if sum(math.prod(shape) * first[name].itemsize for name, shape in shapes.items()) > _LARGEST:
            return None
        folder.mkdir(exist_ok=True)
        files = [folder / f"{at}.npy" for at in range(len(axes))]
        opened = {
            name: np.lib.format.open_memmap(file, "w+", first[name].dtype, shapes[name])
            for name, file in zip(axes, files, strict=True)
        }
        return cls(opened, axes)

    def put(self, start: int, count: int, outputs: Mapping[str, Array]) -> bool:
        """Whether their shapes are those of the first."""
        for name, value in outputs.items():
            rows = np.moveaxis(value, self.axes[name], 0)
            if rows.shape != (count, *self.arrays[name].shape[1:]):
                return False
            self.arrays[name][start : start + count] = rows
        return True

    def get(self, indices: Indices) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.moveaxis(np.array(value[indices]), 0, self.axes[name]))
            for name, value in self.arrays.items()
        }
