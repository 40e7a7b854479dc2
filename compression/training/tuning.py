"""Fine-tuning a model: from ONNX to ONNX, with BatchNormalization put back meanwhile where that helps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from compression.dataset import Split
from compression.engine import Engine, Role, fold_batchnorm, insert_batchnorm, normalise
from compression.errors import CompressionError
from compression.model import Model
from compression.technique import Context
from compression.training.batches import Batches
from compression.training.extension import Extension, Stage
from compression.training.loop import fit
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.validation import held_out
from compression.training.zeros import HeldZeros

_STATISTICS = 1024
"""Samples that the statistics of a BatchNormalization put back are taken from."""
_LARGE, _STEPS = 64, 20
"""Smaller batches, or fewer steps, are not worth the noise that statistics of batches bring."""


def samples(context: Context) -> Split:
    """The split that is trained on. Errors: CompressionError `no_training_samples`."""
    data = context.data
    split = (data.split("train") or data.split("calibration")) if data is not None else None
    if split is None:
        raise CompressionError(
            "no_training_samples", "the data set has neither a train nor a calibration split"
        )
    return split


def fine_tune(  # noqa: PLR0913  a call says what it differs in
    model: Model,
    training: Training,
    context: Context,
    *,
    extensions: Callable[[Engine], Sequence[Extension]] = lambda _engine: (),
    teacher: Model | None = None,
    objective: Callable[..., Objective] = Objective.of,
    stage: Stage = Stage(),  # noqa: B008  immutable
    renormalise: bool = False,
) -> tuple[Model, Mapping[str, Any]]:
    """The trained model, and what there is to say of it.

    `renormalise`: the network was cut, so that its convolutions recover with BatchNormalization only; it is
    put back where it was folded away, trained and folded again. `objective` makes what is minimised, from
    what `Objective.of` is given.

    Weights that are exactly 0, as pruning leaves them, stay 0.

    Errors: CompressionError `engine_unsupported`, `labels_missing`, E_DIVERGED, …
    """
    split = samples(context)
    ready = normalise(model)
    policy = training.batchnorm
    if policy == "auto":
        policy = "train" if renormalise and _many(ready, training, split) else "frozen"
    training = training.model_copy(update={"batchnorm": policy})
    looking = replace(context, report=lambda _, *told: context.report(stage.span[0], *told))
    goal = objective(ready, split, training, looking, teacher or context.original or model)
    inserted = insert_batchnorm(ready, statistics(ready, context)) if policy == "train" else ready
    engine = Engine.from_model(inserted)
    zeros = HeldZeros(weight for _, weight in engine.parameters_by_role(Role.WEIGHT))
    added = [*extensions(engine), zeros]
    fitted = fit(engine, goal, split, training, context, extensions=added, stage=stage)
    trained = engine.write_back()
    return fold_batchnorm(trained) if inserted is not ready else trained, fitted.details


def _many(model: Model, training: Training, split: Split) -> bool:
    """Whether batches and steps are large and many enough for statistics of their own."""
    size = min(split.batch_size(model.inputs, training.batch_size), split.n)
    return size >= _LARGE and training.epochs * split.n / size >= _STEPS


def statistics(model: Model, context: Context) -> Iterator[Mapping[str, Tensor]]:
    """Batches of the training samples for what is measured on them before training."""
    split = samples(context)
    _, used = held_out(split, Training(validation=0), context.seed)
    batches = Batches(
        split=split, inputs=model.inputs, indices=used[:_STATISTICS], size=128, seed=context.seed
    )
    for step in range(batches.per_epoch):
        yield batches.of_step(step).inputs
