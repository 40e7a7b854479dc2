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


def placed(other: Model, model: Model, context: Context, part: str) -> Model:
    """Another network under the model's interface, as the student or the teacher.

    Errors: CompressionError `student_misfit`, `teacher_misfit` where its inputs or outputs are others.
    """
    renamed = Model(student.stand_in(other.proto, model.proto, part))
    (feeds,) = sampled(model, context, 1)
    own, wanted = (runtime.run(runtime.session(one.proto), feeds) for one in (renamed, model))
    for name, value in wanted.items():
        if own[name].shape != value.shape:
            raise CompressionError(
                f"{part}_misfit",
                f"the {part} cannot take the model's place: of one sample its output {name!r} is "
                f"{list(own[name].shape)} where the model's is {list(value.shape)}",
            )
    return renamed


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
    if not wanted:
        trained, details = fine_tune(pupil.model, training, context, teacher=teacher, renormalise=True)
        return trained, {**costs(trained, teacher), **pupil.details, **details}
    chosen, small, large = _showing(wanted, pupil.model, teacher, context)
    objective = partial(_hinted, [hint.weight for hint in chosen])
    trained, details = fine_tune(
        small, training, context, teacher=large, objective=objective, renormalise=True
    )
    trained = Model(hints.without_outputs(trained.proto, len(chosen)))
    told = {**pupil.details, "hints": [hint._asdict() for hint in chosen]}
    return trained, {**costs(trained, teacher), **told, **details}


def _showing(
    wanted: Sequence[hints.Hint] | Literal["auto"], pupil: Model, teacher: Model, context: Context
) -> tuple[Sequence[hints.Hint], Model, Model]:
    """Hints, and both networks with their maps as outputs."""
    (feeds,) = sampled(teacher, context, 1)
    large, small = hints.Maps(teacher.proto, feeds), hints.Maps(pupil.proto, feeds)
    chosen = hints.matching(large, small) if wanted == "auto" else wanted
    hints.check(chosen, large, small)
    return (
        chosen,
        Model(small.with_outputs([hint.student for hint in chosen])),
        Model(large.with_outputs([hint.teacher for hint in chosen])),
    )


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
