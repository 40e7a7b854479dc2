"""What labels ask of a model's outputs, found by looking at the first samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from compression import runtime
from compression.dataset import Array, Split
from compression.graph.ending import last_operator
from compression.measure.fidelity import Fidelity
from compression.measure.score import Score, score
from compression.measure.task import MASK, Seen, Told, tell
from compression.measurement import Task, WantedTask
from compression.model import Model

_SAMPLES = 2
"""Looked at: few, as their outputs may be large, and another number than 1, to tell them from axes of one."""
_MOST, _MOST_OUTPUTS = 64, 1 << 22
"""Samples, and numbers in their outputs, of a batch."""
_EMBEDDING = "sentence_embedding"
_TOKENS = "input_ids"


@dataclass(frozen=True)
class Question:
    output: str
    told: Told
    labels: Array
    """Of all samples."""
    inputs: Mapping[str, Array]

    def score(self) -> Score:
        return score(self.told, self.inputs)

    def fidelity(self) -> Fidelity:
        threshold = self.told.threshold if self.told.task == "multilabel" else None
        return Fidelity(self.output, self.told.axis, threshold)


@dataclass(frozen=True)
class Asked:
    question: Question | None
    """None: there is nothing to be said but how near outputs are to the original's."""
    batch: int
    """Samples that are run at once."""
    warnings: tuple[str, ...] = ()

    @property
    def task(self) -> Task | None:
        return None if self.question is None else self.question.told.task


def ask(
    model: Model,
    split: Split,
    wanted: WantedTask = "auto",
    session: ort.InferenceSession | None = None,
) -> Asked:
    """The first output that the labels can be about. `session` runs the model; None: one is made from memory.

    Errors: CompressionError `dataset_misfit`, E_MODEL_RUN.
    """
    count = min(split.batch_size(model.inputs, _SAMPLES), split.n)
    some = Split({name: array[:count] for name, array in split.arrays.items()}, None)
    outputs = next(
        runtime.run_split(session or runtime.session(model.outline), some, model.inputs, size=count)
    )
    numbers = sum(value.size for value in outputs.values()) // count
    batch = max(1, min(_MOST, _MOST_OUTPUTS // max(1, numbers)))
    inputs = split.feeds(model.inputs)
    labels = _labels(split, inputs, wanted)
    if labels is None:
        return Asked(None, batch, _nothing_to_score(wanted))
    names = _names(outputs, wanted)
    looks = [
        Seen(outputs[name], count, labels, inputs, last_operator(model.outline.graph, name)) for name in names
    ]
    for name, seen in zip(names, looks, strict=True):
        told = tell(seen, wanted)
        if told is not None:
            return Asked(Question(name, told, labels, inputs), batch, tuple(_beyond(seen, told)))
    return Asked(None, batch, tuple(_unfit(looks, wanted)))


def _labels(split: Split, inputs: Mapping[str, Array], wanted: WantedTask) -> Array | None:
    """Texts are the labels of a language model where there are no others."""
    if split.labels is not None or wanted != "language_model":
        return split.labels
    whole = [name for name, array in inputs.items() if array.dtype.kind in "iu" and name != MASK]
    if _TOKENS in whole or len(whole) == 1:
        return inputs[_TOKENS if _TOKENS in whole else whole[0]]
    return None


def _names(outputs: Mapping[str, Array], wanted: WantedTask) -> list[str]:
    """An encoder's embedding of a sentence comes before those of its tokens."""
    first = wanted == "similarity" and _EMBEDDING in outputs
    return [_EMBEDDING, *outputs] if first else list(outputs)


def _nothing_to_score(wanted: WantedTask) -> tuple[str, ...]:
    missing = "" if wanted == "auto" else f" for task {wanted!r}"
    return (f"no labels{missing}: only fidelity was measured (agreement, KL divergence, SQNR)",)


def _unfit(looks: Sequence[Seen], wanted: WantedTask) -> Iterator[str]:
    by = "" if wanted == "auto" else f" as those of task {wanted!r}"
    yield f"the labels fit no output{by}; no task metric was measured"
    if any(tell(seen, "similarity") for seen in looks):
        yield "if rows 2i and 2i + 1 are pairs with one label, ask for task 'similarity'"


def _beyond(seen: Seen, told: Told) -> Iterator[str]:
    if told.axis is None or told.task == "ctc":
        return
    classes, largest = seen.output.shape[told.axis], int(np.max(seen.labels))
    if largest >= classes:
        yield f"a label is {largest} where the output has {classes} classes: such labels count as wrong"
