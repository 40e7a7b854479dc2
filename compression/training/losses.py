"""Losses between outputs and labels, told from what both look like, and between outputs and a teacher's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compression.dataset import Array
from compression.errors import CompressionError
from compression.measure.metric import class_axis
from compression.training.form import Form, logits

_IGNORED = -100
_SMALLEST = 1e-7
_LOOKED_AT = 4096
"""Labels that must all be 0 or 1 to be those of yes-or-no questions."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of an output and its labels; a mean over samples."""
FormOf = Callable[[int], Form]
"""What an output is, its classes being along an axis."""


@dataclass(frozen=True)
class ByLabels:
    """A task told from what an output and its labels look like."""

    task: str
    loss: Loss
    axis: int | None = None
    """Of classes that exclude each other."""


def by_labels(
    output: Array, count: int, labels: Array, form: FormOf, smoothing: float = 0.0
) -> ByLabels | None:
    """`output` is that of the first `count` samples. None where the labels can be about nothing in it."""
    shape = (count, *labels.shape[1:])
    indices = labels.dtype.kind in "iu"
    axis = class_axis(output.shape, shape) if indices else None
    if axis is not None:
        task = "classification" if labels.ndim == 1 else "classification of positions"
        return ByLabels(task, _Classes(axis, form(axis), smoothing), axis)
    if int(np.prod(shape)) == output.size:
        if np.isin(labels[:_LOOKED_AT], (0, 1)).all():
            return ByLabels("multi-label", _Independent(form(output.ndim - 1)))
        return ByLabels("regression", _squared)
    if indices and labels.ndim == 2 and output.ndim == 3 and count in output.shape[:2]:
        return ByLabels("transcription (CTC)", _Transcription(form(2), len(output) == count), 2)
    return None


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
