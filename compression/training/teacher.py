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
from compression.training.batches import Indices

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

    def remember(self, scratch: Path, report: Report) -> None:
        """Does nothing where outputs are too large, or their shapes differ from batch to batch.

        Errors: CompressionError E_MODEL_RUN.
        """
        folder, done = Path(mkdtemp(prefix="teacher", dir=scratch)), 0
        kept: dict[str, Array] = {}
        for outputs in runtime.run_split(self._session, self._split, self._model.inputs, size=_BATCH):
            rows = min(self._size, self._split.n - done)
            floats = _floats(outputs)
            kept = kept or self._files(folder, floats)
            if not kept or any(
                value.shape != (rows, *kept[name].shape[1:]) for name, value in floats.items()
            ):
                return
            for name, value in floats.items():
                kept[name][done : done + rows] = value
            done += rows
            report(0.0, "running the original on the training samples", {"samples": done})
        self._kept = kept

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
            return {name: torch.from_numpy(np.array(value[indices])) for name, value in self._kept.items()}
        count = len(indices)
        parts = [self._run(inputs, start, count) for start in range(0, count, self._size)]
        return (
            {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if len(parts) > 1
            else parts[0]
        )

    def _run(self, inputs: Mapping[str, Tensor], start: int, count: int) -> dict[str, Tensor]:
        whole = self._size >= count
        feeds = {
            name: (value if whole else value[start : start + self._size]).numpy()
            for name, value in inputs.items()
        }
        return {
            name: torch.from_numpy(value)
            for name, value in _floats(runtime.run(self._session, feeds)).items()
        }


def _floats(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value for name, value in outputs.items() if value.dtype.kind == "f"}
