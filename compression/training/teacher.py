"""Teacher: the outputs a student learns from. Each sample is run once, by the plain runtime."""

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

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


class Teacher:
    """Called with samples, gives its floating-point outputs for them.

    After `remember` they come from a file, where each sample's were written once; else, as augmented inputs
    need, each batch is run as it comes.
    """

    def __init__(self, model: Model, split: Split, threads: int) -> None:
        self._model, self._split = model, split
        self._session = runtime.session(model.proto, threads=threads)
        self._size = split.batch_size(model.inputs, _BATCH)
        self._kept: dict[str, Array] | None = None
        self._axes: dict[str, int] = {}

    def remember(self, scratch: Path, report: Report) -> None:
        """Does nothing where outputs are too large, or their shapes differ from batch to batch.

        Errors: CompressionError E_MODEL_RUN.
        """
        folder, done = Path(mkdtemp(prefix="teacher", dir=scratch)), 0
        kept: dict[str, Array] = {}
        for outputs in runtime.run_split(self._session, self._split, self._model.inputs, size=_BATCH):
            count = min(self._size, self._split.n - done)
            rows = self._rows(outputs, count)
            kept = kept or self._files(folder, rows)
            if not kept or any(value.shape != (count, *kept[name].shape[1:]) for name, value in rows.items()):
                return
            for name, value in rows.items():
                kept[name][done : done + count] = value
            done += count
            report(0.0, "running the original on the training samples", {"samples": done})
        self._kept = kept

    def _rows(self, outputs: Mapping[str, Array], count: int) -> dict[str, Array]:
        """Floating-point outputs, samples first."""
        floats = _floats(outputs)
        self._axes = self._axes or {name: sample_axis(value.shape, count) for name, value in floats.items()}
        return {name: np.moveaxis(value, self._axes[name], 0) for name, value in floats.items() if value.ndim}

    def _files(self, folder: Path, outputs: Mapping[str, Array]) -> dict[str, Array]:
        shapes = {name: (self._split.n, *value.shape[1:]) for name, value in outputs.items()}
        if sum(math.prod(shape) * outputs[name].itemsize for name, shape in shapes.items()) > _LARGEST:
            return {}
        return {
            name: np.lib.format.open_memmap(folder / f"{at}.npy", "w+", outputs[name].dtype, shape)
            for at, (name, shape) in enumerate(shapes.items())
        }

    def __call__(self, indices: Indices, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._kept is not None:
            return {
                name: torch.from_numpy(np.moveaxis(np.array(value[indices]), 0, self._axes[name]))
                for name, value in self._kept.items()
            }
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
