"""How far outputs move when a network is changed a little: against its own outputs, on few samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from compression import runtime
from compression.dataset import Array, Split
from compression.errors import CompressionError
from compression.inspection import TensorSpec
from compression.measure import question
from compression.measure.fidelity import Fidelity
from compression.measurement import Metric, WantedTask
from compression.model import Model

BATCH = 16
KEPT = 64 << 20
"""Bytes of reference outputs that are kept: fewer samples are looked at where they would be more."""
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class Scores(NamedTuple):
    """Null where it cannot be told: of labels that fit no output, or of outputs that are not finite."""

    sqnr_db: float | None = None
    agreement: float | None = None
    kl: float | None = None
    metric: Metric | None = None

    @property
    def json(self) -> dict[str, float | None]:
        metric = None if self.metric is None else self.metric.value
        found = {**self._asdict(), "metric": metric}
        return {name: None if value is None else round(value, 5) for name, value in found.items()}


BROKEN = Scores()


def thinned(split: Split, samples: int, inputs: Sequence[TensorSpec]) -> Split:
    """About so many, in evenly spaced pairs: data sets may be sorted by class, and rows may belong together.
    Whole batches where the model fixes their size, with samples repeated where there are too few.
    """
    count = min(samples, split.n)
    starts = np.linspace(0, max(split.n - 2, 0), -(-count // 2)).astype(int) // 2 * 2
    rows = np.minimum((starts[:, None] + np.arange(2)).ravel()[:count], split.n - 1)
    size = split.batch_size(inputs, BATCH)
    if any(spec.shape[:1] == (size,) for spec in inputs):
        rows = np.resize(rows, max(1, count // size) * size)
    labels = None if split.labels is None else split.labels[rows]
    return Split({name: array[rows] for name, array in split.arrays.items()}, labels)


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Outputs of a network on some samples, to compare others with."""

    model: Model
    split: Split
    asked: question.Asked
    reference: list[dict[str, Array]]

    @classmethod
    def of(cls, model: Model, split: Split, task: WantedTask, session: ort.InferenceSession) -> "Evaluator":
        """`session` runs the model. Errors: CompressionError E_MODEL_RUN, `dataset_misfit`."""
        asked = question.ask(model, split, task, session)
        reference: list[dict[str, Array]] = []
        kept = 0
        for outputs in (runtime.run(session, feeds) for feeds in split.batches(model.inputs, BATCH)):
            reference.append(outputs)
            kept += sum(value.nbytes for value in outputs.values())
            if kept > KEPT:
                break
        return cls(model, split, asked, reference)

    @property
    def samples(self) -> int:
        return min(self.split.n, len(self.reference) * self.split.batch_size(self.model.inputs, BATCH))

    def batches(self) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """What is fed, and what the network makes of it."""
        return zip(self.split.batches(self.model.inputs, BATCH), self.reference, strict=False)

    def scores(self, run: Run, activations: Sequence[Mapping[str, Array]] | None = None) -> Scores:
        """Of a changed network. `run` is given the activations of each batch besides its feeds; outputs that
        it does not make are as they were.

        Errors: CompressionError E_MODEL_RUN.
        """
        asked = self.asked.question
        fidelity = Fidelity() if asked is None else asked.fidelity()
        score = None if asked is None else asked.score()
        done = 0
        for number, (feeds, expected) in enumerate(self.batches()):
            outputs = {**expected, **run(feeds if activations is None else {**feeds, **activations[number]})}
            try:
                fidelity.add(expected, outputs)
            except CompressionError:  # NaN or infinity
                return BROKEN
            if asked is not None and score is not None:
                values = outputs[asked.output]
                score.add(values, asked.labels[done : done + len(values)])
                done += len(values)
        metrics = score.metrics() if score is not None else ()
        metric = metrics[0] if metrics and np.isfinite(metrics[0].value) else None
        return Scores(fidelity.sqnr_db, fidelity.agreement, fidelity.kl, metric)
