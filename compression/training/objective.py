"""Objective: the loss of a training, by labels, by a teacher, or by both."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from torch import Tensor

from compression import fit, runtime
from compression.dataset import Array, Split
from compression.errors import CompressionError, FieldError, Suggestion
from compression.graph.ending import last_operator
from compression.measure.fidelity import is_decision
from compression.measure.score import score
from compression.measure.task import Seen
from compression.measurement import WantedTask
from compression.model import Model
from compression.technique import Context
from compression.training import losses
from compression.training.batches import Batch, sample_axis
from compression.training.form import Form, form_of
from compression.training.options import Training
from compression.training.teacher import Teacher

_SEEN = 61
"""Samples on which it is told what the outputs are; a number that is no other size of an output."""


@dataclass
class Objective:
    """Called with outputs and the batch they are of. `decision` is the output that labels, agreement and the
    metric are about.
    """

    decision: str
    labels: losses.ByLabels | None
    teacher: Teacher | None
    soft: Mapping[str, losses.Loss]
    """Between outputs and the teacher's."""
    axis: int | None
    """Of the classes of the decision."""
    alpha: float
    unbatched: bool = False
    """The model takes one sample a run, without an axis for it."""

    @classmethod
    def of(
        cls, model: Model, split: Split, training: Training, context: Context, teacher: Model | None = None
    ) -> Self:
        """The teacher is the one given, else the job's original, else the model as it is now.

        Errors: CompressionError `labels_missing`, `labels_unfit`, `nothing_to_train`, E_MODEL_RUN.
        """
        teaching = teacher or context.original or model
        seen = _Seen(model, teaching, split)
        decision, found = _task(seen, split, training, context.task)
        if training.loss == "labels" and found is None:
            raise _no_labels(split)
        guide = None if training.loss == "labels" else Teacher(teaching, split, context.threads)
        if guide is not None and not training.augmentation.active and training.epochs >= 1:
            guide.remember(context.scratch, context.report)
        axes = seen.axes(decision, found)
        return cls(
            decision,
            None if training.loss == "distillation" else found,
            guide,
            {name: seen.soft(name, axes.get(name), training.temperature) for name in seen.outputs},
            axes.get(decision),
            training.alpha,
            seen.unbatched,
        )

    def __call__(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        hard = None
        if self.labels is not None and batch.labels is not None:
            hard = self.labels.loss(self._decided(outputs), batch.labels)
        if batch.teacher is None:
            assert hard is not None  # noqa: S101  `of` made sure of one of them
            return hard
        parts = [self.soft[name](outputs[name], target) for name, target in batch.teacher.items()]
        soft: Tensor = sum(parts) / len(parts)  # type: ignore[assignment]
        return soft if hard is None else (1 - self.alpha) * hard + self.alpha * soft

    def _decided(self, outputs: Mapping[str, Tensor]) -> Tensor:
        output = outputs[self.decision]
        return output[None] if self.unbatched else output

    def scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> tuple[str, float] | None:
        """Name and value of the metric on a batch: the task's, else agreement with the teacher."""
        output = self._decided(outputs).detach().numpy()
        if self.labels is not None and batch.labels is not None:
            labels = batch.labels.numpy()
            scored = score(self.labels.told, {})
            scored.add(output, labels)
            measured = scored.metrics()
            return (measured[0].name, measured[0].value) if measured else None
        if batch.teacher is None or self.axis is None:
            return None
        agreed = output.argmax(self.axis) == self._decided(batch.teacher).numpy().argmax(self.axis)
        return "agreement", float(np.mean(agreed))

    @property
    def summary(self) -> dict[str, Any]:
        """What was minimised, for the step's record."""
        kinds = [self.labels.task] if self.labels is not None else []
        kinds += ["distillation"] if self.teacher is not None else []
        return {"objective": " and ".join(kinds), "output": self.decision}


class _Seen:
    """What the model and its teacher give for the first samples, each with a first axis for them where it has
    one at all.
    """

    def __init__(self, model: Model, teacher: Model, split: Split) -> None:
        self.models = model, teacher
        self.inputs = split.feeds(model.inputs)
        self.unbatched = any(
            fit.layout(spec, self.inputs[spec.name].shape) == "single" for spec in model.inputs
        )
        fixed = split.batch_size(model.inputs, 0)
        self.count = min(split.n, fixed if fixed > 1 else _SEEN)
        some = Split({name: array[: self.count] for name, array in split.arrays.items()}, None)
        self.taught, _ = self._run(teacher, some)
        self.outputs, self.count = self._run(model, some)

    def _run(self, model: Model, some: Split) -> tuple[dict[str, Array], int]:
        """Its floating-point outputs, and of how many samples: of one, where their shapes differ."""
        parts = list(runtime.run_split(runtime.session(model.proto), some, model.inputs, size=_SEEN))
        floats = [name for name, value in parts[0].items() if value.dtype.kind == "f"]
        count = self.count
        if any(part[name].shape != parts[0][name].shape for part in parts for name in floats):
            parts, count = parts[:1], 1
        return {name: self._joined([part[name] for part in parts]) for name in floats}, count

    def _joined(self, parts: list[Array]) -> Array:
        """Of one run of all samples, or of runs of one sample each."""
        if self.unbatched:
            return np.stack(parts)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, sample_axis(parts[0].shape, 1))

    def axes(self, decision: str, found: losses.ByLabels | None) -> dict[str, int]:
        """Outputs that are scores of classes, and along which axis: as the labels have it, else by shape."""
        axes = {name: value.ndim - 1 for name, value in self.outputs.items() if self._decides(name, value)}
        if found is not None:
            axes.pop(decision, None)
            axes |= {decision: found.axis} if found.axis is not None else {}
        return axes

    def _decides(self, name: str, output: Array) -> bool:
        """Whether, for all one can see, an output is scores of classes: raw numbers for each position may be
        coordinates as well.
        """
        if not is_decision(output):
            return False
        form = self._form(1, name, output.ndim - 1)
        return form in {Form.PROBABILITIES, Form.LOG_PROBABILITIES} or (
            form is Form.LOGITS and output.ndim == 2
        )

    def _form(self, which: int, name: str, axis: int) -> Form:
        output = (self.outputs, self.taught)[which][name]
        return form_of(output, axis, last_operator(self.models[which].proto.graph, name))

    def soft(self, name: str, axis: int | None, temperature: float) -> losses.Loss:
        if axis is None:
            return losses.imitation
        forms = self._form(0, name, axis), self._form(1, name, axis)
        return losses.Softened(axis - int(self.unbatched), *forms, temperature)

    def by_labels(
        self, name: str, labels: Array, smoothing: float, wanted: WantedTask
    ) -> losses.ByLabels | None:
        last = last_operator(self.models[0].proto.graph, name)
        seen = Seen(self.outputs[name], self.count, labels, self.inputs, last)
        return losses.by_labels(seen, partial(self._form, 0, name), smoothing, wanted)


def _task(
    seen: _Seen, split: Split, training: Training, wanted: WantedTask
) -> tuple[str, losses.ByLabels | None]:
    """The output that labels are about, and how."""
    if not seen.outputs:
        raise CompressionError(
            "nothing_to_train", "no output of the model is of floating-point type: nothing to train on"
        )
    if split.labels is not None:
        for name in seen.outputs:
            found = seen.by_labels(name, split.labels, training.label_smoothing, wanted)
            if found is not None:
                return name, found
    return next(iter(seen.outputs)), None


def _no_labels(split: Split) -> CompressionError:
    missing = split.labels is None
    why = "the training samples have no labels" if missing else "the labels fit no output of the model"
    way = Suggestion(
        "Learn from the original model's outputs instead", {"training": {"loss": "distillation"}}
    )
    return CompressionError(
        "labels_missing" if missing else "labels_unfit",
        f"{why}, and the loss is to be by labels",
        errors=[FieldError("/training/loss", why)],
        suggestions=[way],
    )
