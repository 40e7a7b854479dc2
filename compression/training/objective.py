"""Objective: the loss of a training, by labels, by a teacher, or by both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from compression import fit, runtime
from compression.dataset import Array, Split
from compression.errors import CompressionError, FieldError, Suggestion
from compression.measure import metric
from compression.measure.fidelity import is_decision
from compression.model import Model
from compression.technique import Context
from compression.training import losses
from compression.training.batches import Batch
from compression.training.options import Training
from compression.training.teacher import Teacher

_SEEN = 64
"""Samples on which it is told what the outputs are."""
Axis = int


@dataclass
class Objective:
    """Called with outputs and the batch they are of. `decision` is the output that labels, agreement and the
    metric are about.
    """

    decision: str
    labels: losses.ByLabels | None
    teacher: Teacher | None
    classes: Mapping[str, tuple[Axis, losses.Form]]
    """Outputs that are scores of classes."""
    alpha: float
    temperature: float
    unbatched: bool = False
    """The model takes one sample a run, without an axis for it."""

    @classmethod
    def of(
        cls, model: Model, split: Split, training: Training, context: Context, teacher: Model | None = None
    ) -> Self:
        """The teacher is the one given, else the job's original, else the model as it is now.

        Errors: CompressionError `labels_missing`, `labels_unfit`, E_MODEL_RUN.
        """
        teaching = teacher or context.original or model
        first = _first(teaching, split)
        decision, found = _task(first, split, training)
        if training.loss == "labels" and found is None:
            raise _no_labels(split)
        guide = None if training.loss == "labels" else Teacher(teaching, split, context.threads)
        if guide is not None and not training.augmentation.active and training.epochs > 1:
            guide.remember(context.scratch, context.report)
        return cls(
            decision,
            None if training.loss == "distillation" else found,
            guide,
            _classes(first, decision, split),
            training.alpha,
            training.temperature,
            any(
                fit.layout(spec, split.feeds(model.inputs)[spec.name].shape) == "single"
                for spec in model.inputs
            ),
        )

    def __call__(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        hard = None
        if self.labels is not None and batch.labels is not None:
            output = outputs[self.decision]
            hard = self.labels.loss(output[None] if self.unbatched else output, batch.labels)
        if batch.teacher is None:
            assert hard is not None  # noqa: S101  `of` made sure of one of them
            return hard
        soft = self._soft(outputs, batch.teacher)
        return soft if hard is None else (1 - self.alpha) * hard + self.alpha * soft

    def _soft(self, outputs: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """Over all floating-point outputs, each weighted alike."""
        parts = []
        for name, target in teacher.items():
            if name in self.classes:
                axis, form = self.classes[name]
                parts.append(losses.softened(outputs[name], target, axis, form, self.temperature))
            else:
                parts.append(losses.imitated(outputs[name], target))
        total: Tensor = sum(parts) / len(parts)  # type: ignore[assignment]
        return total

    def scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> tuple[str, float, int] | None:
        """Name, value and number of samples of the metric on a batch: the task's, else agreement."""
        output = outputs[self.decision].detach().numpy()
        if self.labels is not None and batch.labels is not None:
            found = metric.choose(
                {self.decision: output[None] if self.unbatched else output}, batch.labels.numpy()
            )
            if found is None:
                return None
            found[1].add(output, batch.labels.numpy())
            measured = found[1].metric()
            return measured.name, measured.value, len(batch)
        if batch.teacher is None or self.decision not in self.classes:
            return None
        axis = self.classes[self.decision][0]
        agreed = output.argmax(axis) == batch.teacher[self.decision].numpy().argmax(axis)
        return "agreement", float(np.mean(agreed)), len(batch)

    @property
    def summary(self) -> dict[str, Any]:
        """What was minimised, for the step's record."""
        kinds = [self.labels.task] if self.labels is not None else []
        kinds += ["distillation"] if self.teacher is not None else []
        return {"objective": " and ".join(kinds), "output": self.decision}


def _first(model: Model, split: Split) -> dict[str, Array]:
    some = Split(
        {name: array[:_SEEN] for name, array in split.arrays.items()},
        None if split.labels is None else split.labels[:_SEEN],
    )
    parts = list(runtime.run_split(runtime.session(model.proto), some, model.inputs, size=_SEEN))
    if len(parts) == 1 or any(value.ndim == 0 for value in parts[0].values()):
        return parts[0]
    same = all(
        {n: v.shape[1:] for n, v in part.items()} == {n: v.shape[1:] for n, v in parts[0].items()}
        for part in parts
    )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if same else parts[0]


def _task(first: Mapping[str, Array], split: Split, training: Training) -> tuple[str, losses.ByLabels | None]:
    floats = [name for name, value in first.items() if value.dtype.kind == "f"]
    if not floats:
        raise CompressionError(
            "labels_unfit", "no output of the model is of floating-point type: nothing to train on"
        )
    if split.labels is not None:
        for name in floats:
            labels = np.asarray(split.labels[: len(first[name])])
            found = losses.by_labels(first[name], labels, training.label_smoothing)
            if found is not None:
                return name, found
    return floats[0], None


def _classes(first: Mapping[str, Array], decision: str, split: Split) -> dict[str, tuple[Axis, losses.Form]]:
    found: dict[str, tuple[Axis, losses.Form]] = {}
    for name, value in first.items():
        axis = None
        if name == decision and split.labels is not None and split.labels.dtype.kind in "iu":
            axis = metric.class_axis(value.shape, (len(value), *split.labels.shape[1:]))
        if axis is None and is_decision(value):
            axis = value.ndim - 1
        form = losses.form_of(value, axis) if axis is not None else losses.Form.INDEPENDENT
        if axis is not None and form is not losses.Form.INDEPENDENT:
            found[name] = axis, form
    return found


def _no_labels(split: Split) -> CompressionError:
    code = "labels_missing" if split.labels is None else "labels_unfit"
    why = (
        "the training samples have no labels"
        if split.labels is None
        else "the labels fit no output of the model"
    )
    way = Suggestion(
        "Learn from the original model's outputs instead", {"training": {"loss": "distillation"}}
    )
    return CompressionError(
        code,
        f"{why}, and the loss is to be by labels",
        errors=[FieldError("/training/loss", why)],
        suggestions=[way],
    )
