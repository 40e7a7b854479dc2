"""Losses between outputs and labels, told from what both look like, and between outputs and a teacher's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from compression.errors import CompressionError
from compression.measure.task import Seen, Told, tell
from compression.measurement import Task, WantedTask
from compression.training.form import Form, logits

_IGNORED = -100
_SMALLEST = 1e-7
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of an output and its labels; a mean over samples."""
FormOf = Callable[[int], Form]
"""What an output is, its classes being along an axis."""


@dataclass(frozen=True)
class ByLabels:
    """What labels ask of an output, and the loss of it."""

    told: Told
    loss: Loss

    @property
    def task(self) -> str:
        return _NAMES[self.told.task]

    @property
    def axis(self) -> int | None:
        """Of classes that exclude each other."""
        return self.told.axis


_NAMES: Mapping[Task, str] = {
    "classification": "classification",
    "tokens": "classification of positions",
    "multilabel": "multi-label",
    "regression": "regression",
    "similarity": "regression",
    "language_model": "next token",
    "ctc": "transcription (CTC)",
}


def by_labels(
    seen: Seen, form: FormOf, smoothing: float = 0.0, wanted: WantedTask = "auto"
) -> ByLabels | None:
    """None where the labels can be about nothing in the output, or where pairs of rows have one together."""
    told = tell(seen, wanted)
    if told is None or told.pairs:
        return None
    return ByLabels(told, _loss(told, seen.output.ndim, form, smoothing))


def _loss(told: Told, rank: int, form: FormOf, smoothing: float) -> Loss:
    if told.task == "ctc":
        return _Transcription(form(2), told.batch_first)
    if told.axis is not None:
        classes = _Classes(told.axis, form(told.axis), smoothing)
        return _Ahead(classes, told.ahead) if told.ahead else classes
    return _Independent(form(rank - 1)) if told.task == "multilabel" else _squared


@dataclass(frozen=True)
class _Ahead:
    """The label of a position is that `ahead` positions later."""

    loss: Loss
    ahead: int

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """[N, T, V] and [N, T]."""
        return self.loss(output[:, : -self.ahead], labels[:, self.ahead :])


@dataclass(frozen=True)
class _Classes:
    axis: int
    form: Form
    smoothing: float

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """Negative labels count for nothing."""
        scores = logits(output, self.form).movedim(self.axis, 1)
        _check(labels, scores.shape[1])
        labels = torch.where(labels < 0, _IGNORED, labels.long())
        if not bool((labels >= 0).any()):
            return scores.sum() * 0
        return functional.cross_entropy(scores, labels, ignore_index=_IGNORED, label_smoothing=self.smoothing)


def _check(labels: Tensor, classes: int) -> None:
    largest = int(labels.max())
    if largest >= classes:
        raise CompressionError("labels_unfit", f"a label is {largest} where the output has {classes} classes")


@dataclass(frozen=True)
class _Independent:
    form: Form

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        raw = self.form in {Form.LOGITS, Form.LOG_PROBABILITIES}
        scores = logits(output, Form.LOGITS if raw else Form.INDEPENDENT)
        return functional.binary_cross_entropy_with_logits(scores, labels.float().reshape(scores.shape))


def _squared(output: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(output.float(), labels.float().reshape(output.shape))


@dataclass(frozen=True)
class _Transcription:
    """Connectionist temporal classification (Graves et al. 2006) of [N, T, C] or [T, N, C]; class 0 is the
    blank, labels [N, L] are filled up with negatives or zeros.
    """

    form: Form
    batch_first: bool

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        scores = logits(output, self.form).log_softmax(-1)
        scores = scores.transpose(0, 1) if self.batch_first else scores
        length, count, classes = scores.shape
        _check(labels, classes)
        written = (labels > 0).sum(1)
        lengths = torch.full((count,), length, dtype=torch.long)
        return functional.ctc_loss(scores, labels.long().clamp_min(0), lengths, written, zero_infinity=True)


@dataclass(frozen=True)
class Softened:
    """T^2 KL(teacher || student) of the softened classes, a mean over positions (Hinton et al. 2015,
    arXiv:1503.02531).
    """

    axis: int
    student: Form
    teacher: Form
    temperature: float

    def __call__(self, output: Tensor, teacher: Tensor) -> Tensor:
        student = self._log_probabilities(output, self.student)
        target = self._log_probabilities(teacher, self.teacher)
        kl = functional.kl_div(student, target, reduction="none", log_target=True).sum(-1).mean()
        return kl * self.temperature**2

    def _log_probabilities(self, output: Tensor, form: Form) -> Tensor:
        return (logits(output, form).movedim(self.axis, -1) / self.temperature).log_softmax(-1)


def imitation(output: Tensor, teacher: Tensor) -> Tensor:
    """Squared error relative to the teacher's own energy."""
    teacher = teacher.float()
    return functional.mse_loss(output.float(), teacher) / teacher.square().mean().clamp_min(_SMALLEST)
