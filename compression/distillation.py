"""Distillation: a student network, and the lessons it takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from compression import runtime
from compression.engine import normalise
from compression.engine.initialization import initialise
from compression.errors import CompressionError
from compression.graph import hints, student
from compression.model import Model
from compression.samples import first
from compression.technique import Context
from compression.training.losses import Loss
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.tuning import fine_tune, samples, statistics

_SEEN = 16
"""Samples on which it is told what blocks do."""


@dataclass(frozen=True)
class Student:
    model: Model
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON: how it was made."""


def uploaded(chosen: Model, model: Model, context: Context) -> Student:
    """Another network in the model's place.

    Errors: CompressionError `student_misfit` where its inputs or outputs are not the model's.
    """
    renamed = Model(student.stand_in(chosen.proto, model.proto))
    (feeds,) = sampled(model, context, 1)
    shapes = [
        {name: value.shape for name, value in runtime.run(runtime.session(one.proto), feeds).items()}
        for one in (model, renamed)
    ]
    if shapes[0] != shapes[1]:
        told = " where the model's are ".join(
            ", ".join(f"{name!r} {list(shape)}" for name, shape in own.items()) for own in reversed(shapes)
        )
        raise CompressionError("student_misfit", f"on one sample the student's outputs are {told}")
    return Student(renamed)


def derived(model: Model, context: Context, width: float, depth: float, *, random: bool) -> Student:
    """A narrower and shallower copy of the model.

    Errors: CompressionError `no_student` where nothing can be removed.
    """
    ready = normalise(model)
    made, details = student.derive(ready.proto, list(sampled(ready, context, _SEEN)), width, depth)
    small = Model(made)
    if random:
        small = initialise(normalise(small), context.seed, next(statistics(small, context)))
    return Student(small, details)


def taught(
    pupil: Student,
    teacher: Model,
    context: Context,
    training: Training,
    wanted: Sequence[hints.Hint] | Literal["auto"] = (),
) -> tuple[Model, dict[str, Any]]:
    """The trained student, and what there is to say of it.

    Errors: `unfit_hint`, and those of `fine_tune`.
    """
    (feeds,) = sampled(teacher, context, 1)
    maps = hints.Maps(teacher.proto, feeds), hints.Maps(pupil.model.proto, feeds)
    chosen = hints.matching(*maps) if wanted == "auto" else wanted
    hints.check(chosen, *maps)
    trained, details = fine_tune(
        Model(maps[1].with_outputs([hint.student for hint in chosen])),
        training,
        context,
        teacher=Model(maps[0].with_outputs([hint.teacher for hint in chosen])),
        objective=partial(_hinted, [hint.weight for hint in chosen]),
        renormalise=True,
    )
    small = Model(hints.without_outputs(trained.proto, len(chosen)))
    told = {"hints": [hint._asdict() for hint in chosen]} if chosen else {}
    return small, {**costs(small, teacher), **pupil.details, **told, **details}


def _hinted(weights: Sequence[float], *given: Any) -> Objective:
    """The mean over outputs stays as it is, and each hint is added."""
    objective = Objective.of(*given)
    added = dict(zip(hints.names(len(weights)), weights, strict=True))
    every = len(objective.soft)
    soft = {
        name: _times(difference, added[name] * every)
        if name in added
        else _times(loss, every / (every - len(added)))
        for name, loss in objective.soft.items()
    }
    return replace(objective, soft=soft)


def _times(loss: Loss, factor: float) -> Loss:
    return lambda output, teacher: loss(output, teacher) * factor


def difference(own: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two maps [samples, ...], each of length 1, a mean over samples; 0 to 2 as energies
    are not negative.
    """
    unit = [functional.normalize(value.float().flatten(1), dim=1) for value in (own, teacher)]
    return (unit[0] - unit[1]).square().sum(1).mean()


def sampled(model: Model, context: Context, count: int) -> Iterator[dict[str, runtime.Array]]:
    """Feeds of one training sample each, or of as many as the model fixes."""
    return first(samples(context), model.inputs, count)


def costs(pupil: Model, teacher: Model) -> dict[str, Any]:
    """Parameters and multiply-accumulates of both."""
    small, large = pupil.inspect(), teacher.inspect()
    return {
        "params": small.params,
        "macs": small.macs,
        "teacher_params": large.params,
        "teacher_macs": large.macs,
    }
