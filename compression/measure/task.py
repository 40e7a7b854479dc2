"""The task: what labels ask of an output, told from what both look like, or said by the user.

Training asks here too, so that what is learnt is what is measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compression.dataset import Array
from compression.graph.ending import GATES
from compression.measurement import Task, WantedTask

MASK = "attention_mask"
_LOOKED_AT = 4096
"""Labels that must all be 0 or 1 to be those of yes-or-no questions."""
_ENOUGH = 32
"""Numbers that are not all between 0 and 1 by accident."""


@dataclass(frozen=True)
class Told:
    task: Task
    axis: int | None = None
    """Of classes that exclude each other."""
    ahead: int = 0
    """Of a language model: how many positions later the label of an output is."""
    batch_first: bool = True
    """Of a transcription: [N, T, C], else [T, N, C]."""
    threshold: float = 0.0
    """Of several labels: above it an output says yes."""
    pairs: bool = False
    """Of similarity: the output is embeddings; rows 2i and 2i + 1 belong together and have the same label."""


@dataclass(frozen=True)
class Seen:
    """An output of the first `count` samples, and labels and inputs of all."""

    output: Array
    count: int
    labels: Array
    inputs: Mapping[str, Array]
    """By input of the model."""
    last: str = ""
    """Operator that made the output."""

    @property
    def indices(self) -> bool:
        return self.labels.dtype.kind in "iu"

    @property
    def same_size(self) -> bool:
        """Whether there is a number in the output for each of the labels."""
        return self.output.size == self.count * int(np.prod(self.labels.shape[1:]))

    @property
    def class_axis(self) -> int | None:
        shape = (self.count, *self.labels.shape[1:])
        return class_axis(self.output.shape, shape) if self.indices else None


def class_axis(output: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """Where the classes of an output are, if its labels are indices: last ([N, T, C]) or second ([N, C, H,
    W]).
    """
    if len(output) != len(labels) + 1:
        return None
    for axis in (len(output) - 1, 1):
        if output[axis] > 1 and output[:axis] + output[axis + 1 :] == labels:
            return axis
    return None


def tell(seen: Seen, wanted: WantedTask = "auto") -> Told | None:
    """None where the labels can be about nothing in the output, or not what is wanted."""
    if seen.output.dtype.kind != "f" or seen.labels.dtype.kind not in "biuf":
        return None
    if wanted != "auto":
        return _RULES[wanted](seen)
    for rule in _AUTO:
        told = rule(seen)
        if told is not None:
            return told
    return None


def _classification(seen: Seen) -> Told | None:
    axis = seen.class_axis
    return Told("classification", axis) if axis is not None and seen.labels.ndim == 1 else None


def _tokens(seen: Seen) -> Told | None:
    axis = seen.class_axis
    return Told("tokens", axis) if axis is not None and seen.labels.ndim > 1 else None


def _language_model(seen: Seen) -> Told | None:
    """Labels that are not tokens of the input are taken as they stand."""
    if seen.class_axis != 2 or seen.labels.ndim != 2:
        return None
    return Told("language_model", 2, ahead=_ahead(seen) or 0)


def _causal(seen: Seen) -> Told | None:
    """Only a causal language model is asked for the tokens that it reads itself."""
    return _language_model(seen) if _ahead(seen) is not None else None


def _ahead(seen: Seen) -> int | None:
    """1 where labels are the input tokens, as Hugging Face has them; 0 where they are the tokens one ahead;
    None where they are others. Negative labels fit any.
    """
    labels = np.asarray(seen.labels[:_LOOKED_AT])
    for tokens in seen.inputs.values():
        if tokens.dtype.kind not in "iu" or tokens.shape != seen.labels.shape or labels.ndim != 2:
            continue
        read = np.asarray(tokens[:_LOOKED_AT])
        for ahead, (given, expected) in ((1, (labels, read)), (0, (labels[:, :-1], read[:, 1:]))):
            counted = given >= 0
            if counted.any() and (given == expected)[counted].all():
                return ahead
    return None


def _multilabel(seen: Seen) -> Told | None:
    if not seen.same_size or not np.isin(seen.labels[:_LOOKED_AT], (0, 1)).all():
        return None
    return Told("multilabel", threshold=0.5 if _probable(seen) else 0.0)


def _probable(seen: Seen) -> bool:
    """Whether the output is probabilities, not logits."""
    low, high = float(seen.output.min(initial=0)), float(seen.output.max(initial=0))
    return seen.last in GATES or (seen.output.size >= _ENOUGH and low >= 0 and high <= 1)


def _regression(seen: Seen) -> Told | None:
    return Told("regression") if seen.same_size else None


def _similarity(seen: Seen) -> Told | None:
    output, labels = seen.output, seen.labels
    if labels.size != len(labels):
        return None
    if output.size == seen.count:
        return Told("similarity")
    embeddings = output.ndim in (2, 3) and len(output) == seen.count
    paired = len(labels) % 2 == 0 and np.array_equal(labels[0::2], labels[1::2])
    return Told("similarity", pairs=True) if embeddings and paired else None


def _transcription(seen: Seen) -> Told | None:
    """Of [N, T, C] or [T, N, C] by labels [N, L]."""
    shape = seen.output.shape
    if not seen.indices or seen.labels.ndim != 2 or len(shape) != 3 or seen.count not in shape[:2]:
        return None
    return Told("ctc", 2, batch_first=shape[0] == seen.count)


Rule = Callable[[Seen], Told | None]
_RULES: Mapping[Task, Rule] = {
    "classification": _classification,
    "tokens": _tokens,
    "multilabel": _multilabel,
    "regression": _regression,
    "similarity": _similarity,
    "language_model": _language_model,
    "ctc": _transcription,
}
_AUTO: tuple[Rule, ...] = (_causal, _classification, _tokens, _multilabel, _regression, _transcription)
