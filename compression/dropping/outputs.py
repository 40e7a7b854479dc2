"""How far the outputs of a network are from those of the one that it was."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch

from compression import padding, runtime
from compression.dataset import Array, Split
from compression.inspection import TensorSpec
from compression.measure.fidelity import Fidelity
from compression.measurement import WantedTask

_BATCH = 16
MOST_BYTES = 256 << 20
"""Of the original's outputs, which are kept: of large ones fewer samples are looked at."""


class Outputs:
    """Of a network, on the first samples of a split."""

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: tuple[TensorSpec, ...],
        split: Split,
        samples: int,
        threads: int,
        task: WantedTask = "auto",
    ) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self._inputs, self._threads, self._task = inputs, threads, task
        self._split = _first(split, 1)
        sample = next(self._run(model))
        size = sum(value.nbytes for value in sample.values())
        self._split = _first(split, min(samples, max(1, MOST_BYTES // max(size, 1))))
        self._reference = list(self._run(model))
        self._classes = next(iter(sample.values())).ndim == 2 and task != "similarity"
        """Rather than vectors, as hidden states at several positions and embeddings are."""

    def distance(self, model: onnx.ModelProto) -> float:
        """Of scores of classes the KL divergence; else the energy of the difference as a share of that of the
        outputs, a mean over all of them, as far as they count (`padding.judged`); 0 where none is of floats.
        """
        fidelity = Fidelity()
        for reference, output in zip(self._reference, self._run(model), strict=True):
            fidelity.add(reference, output)
        if fidelity.kl is not None and self._classes:
            return fidelity.kl
        decibels = fidelity.sqnr_db
        return 0.0 if decibels is None else 10 ** (-decibels / 10)

    def _run(self, model: onnx.ModelProto) -> Iterator[Mapping[str, Array]]:
        session = runtime.session(model, threads=self._threads)
        feeds = self._split.batches(self._inputs, _BATCH)
        made = runtime.run_split(session, self._split, self._inputs, size=_BATCH)
        for given, outputs in zip(feeds, made, strict=True):
            yield {name: self._judged(value, given) for name, value in outputs.items()}

    def _judged(self, value: Array, feeds: Mapping[str, Array]) -> Array:
        if value.dtype.kind != "f":
            return value
        return np.asarray(padding.judged(torch.from_numpy(value), feeds, self._task).numpy())


def _first(split: Split, count: int) -> Split:
    return Split({name: array[:count] for name, array in split.arrays.items()}, None)
