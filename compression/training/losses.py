"""What outputs are, and the losses that follow: between outputs and labels, or a teacher's outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compression.dataset import Array
from compression.measure.metric import class_axis

_IGNORED = -100
_SMALLEST = 1e-7


class Form(StrEnum):
    """What the numbers along the axis of classes are."""

    LOGITS = "logits"
    LOG_PROBABILITIES = "log_probabilities"
    PROBABILITIES = "probabilities"
    INDEPENDENT = "independent"
    """Probabilities that do not exclude each other, as a sigmoid gives."""


def form_of(output: Array, axis: int) -> Form:
    """Told by values: some samples of a trained model are enough to tell probabilities from logits."""
    values = np.nan_to_num(output.astype(np.float64))
    if values.min(initial=0) >= 0 and values.max(initial=0) <= 1 + 1e-3:
        return Form.PROBABILITIES if np.allclose(values.sum(axis), 1, atol=1e-2) else Form.INDEPENDENT
    if values.max(initial=-1) <= 1e-3 and np.allclose(np.exp(values).sum(axis), 1, atol=1e-2):
        return Form.LOG_PROBABILITIES
    return Form.LOGITS


def logits(output: Tensor, form: Form) -> Tensor:
    """Of probabilities their logarithm, which softmax turns into themselves again; of independent ones the
    inverse of the sigmoid.
    """
    output = output.float()
    match form:
        case Form.PROBABILITIES:
            return output.clamp_min(_SMALLEST).log()
        case Form.INDEPENDENT:
            return torch.logit(output, _SMALLEST)
        case _:
            return output


Loss = Callable[[Tensor, Tensor], Tensor]
"""Of an output and its labels; a mean over samples."""


@dataclass(frozen=True)
class ByLabels:
    """A task told from what an output and its labels look like."""

    task: str
    loss: Loss


def by_labels(output: Array, labels: Array, smoothing: float = 0.0) -> ByLabels | None:
    """None where the labels can be about nothing in such an output."""
    if output.dtype.kind != "f":
        return None
    axis = class_axis(output.shape, labels.shape) if labels.dtype.kind in "iu" else None
    if axis is not None:
        name = "classification" if labels.ndim == 1 else "classification of positions"
        return ByLabels(name, _Classes(axis, form_of(output, axis), smoothing))
    if labels.size == output.size and len(labels) == len(output):
        if np.isin(labels, (0, 1)).all():
            form = form_of(output, -1)
            return ByLabels("multi-label", _Independent(form))
        return ByLabels("regression", _squared)
    if (
        labels.dtype.kind in "iu"
        and labels.ndim == 2
        and output.ndim == 3
        and len(labels) in output.shape[:2]
    ):
        return ByLabels(
            "transcription (CTC)", _Transcription(form_of(output, -1), len(labels) == output.shape[0])
        )
    return None


@dataclass(frozen=True)
class _Classes:
    axis: int
    form: Form
    smoothing: float

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """Negative labels count for nothing."""
        scores = logits(output, self.form).movedim(self.axis, 1)
        labels = torch.where(labels < 0, _IGNORED, labels.long())
        return functional.cross_entropy(scores, labels, ignore_index=_IGNORED, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class _Independent:
    form: Form

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        form = Form.LOGITS if self.form in (Form.LOGITS, Form.LOG_PROBABILITIES) else Form.INDEPENDENT
        scores = logits(output, form)
        return functional.binary_cross_entropy_with_logits(scores, labels.float().reshape(scores.shape))


def _squared(output: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(output.float(), labels.float().reshape(output.shape))


@dataclass(frozen=True)
class _Transcription:
    """Connectionist temporal classification (Graves et al. 2006); class 0 is the blank, labels are filled up
    with negatives or zeros.
    """

    form: Form
    batch_first: bool

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        scores = logits(output, self.form).log_softmax(-1)
        scores = scores.transpose(0, 1) if self.batch_first else scores
        length, count, _ = scores.shape
        targets = labels.long().clamp_min(0)
        written = (labels > 0).sum(1)
        lengths = torch.full((count,), length, dtype=torch.long)
        return functional.ctc_loss(scores, targets, lengths, written, zero_infinity=True)


def softened(output: Tensor, teacher: Tensor, axis: int, form: Form, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softened classes, a mean over positions (Hinton et al. 2015)."""
    student = (logits(output, form).movedim(axis, -1) / temperature).log_softmax(-1)
    target = (logits(teacher, form).movedim(axis, -1) / temperature).log_softmax(-1)
    kl = functional.kl_div(student, target, reduction="none", log_target=True).sum(-1).mean()
    return kl * temperature**2


def imitated(output: Tensor, teacher: Tensor) -> Tensor:
    """Squared error relative to the teacher's own energy."""
    teacher = teacher.float()
    return functional.mse_loss(output.float(), teacher) / teacher.square().mean().clamp_min(_SMALLEST)
