"""Layer dropping, and the recovery after it."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.dropping.choosing import Dropped, Dropper
from compression.dropping.options import Options
from compression.engine import fold_batchnorm, normalise
from compression.model import Model
from compression.technique import Context
from compression.training.checkpoint import Checkpoint
from compression.training.loop import Stage
from compression.training.tuning import fine_tune

_CHOOSING = 0.2
"""Share of the step's progress."""


def drop(model: Model, options: Options, context: Context) -> tuple[Model, Mapping[str, Any]]:
    """The shallower model, and what there is to say of it.

    A run that was interrupted drops what its checkpoint says and goes on with the training.

    Errors: CompressionError `nothing_to_drop`, `target_unreachable`, `unknown_block`, `macs_unknown`, and
    those of training.
    """
    start = fold_batchnorm(normalise(model))
    context.report(0.0, "looking for what is missed least")
    split = samples.looked_at(start, context.data, context.seed)
    dropper = Dropper(start.proto, options, split, context.threads, context.task)
    found = _found(dropper, options, context)
    smaller, details = Model(found.model), _details(dropper, start, found)
    if options.training is None or not options.training.epochs:
        return smaller, details
    trained, recovery = fine_tune(
        smaller,
        options.training,
        context,
        teacher=context.original or start,
        stage=Stage("recovery", {"dropped": details["dropped"]}, (_CHOOSING, 1 - _CHOOSING)),
        renormalise=True,
    )
    return trained, {**details, "recovery": recovery}


def _found(dropper: Dropper, options: Options, context: Context) -> Dropped:
    checkpoint = Checkpoint.open(context.resume)
    if checkpoint is not None and "dropped" in checkpoint.notes:
        return dropper.given(checkpoint.notes["dropped"])
    return dropper.chosen() if options.dropped is None else dropper.given(options.dropped)


def _details(dropper: Dropper, start: Model, found: Dropped) -> dict[str, Any]:
    before, after = dropper.counted(start.proto), dropper.counted(found.model)
    return {
        "dropped": list(found.blocks),
        "steps": [{"part": name, "criterion": value} for name, value in found.steps],
        "macs": {"before": before[0], "after": after[0]},
        "params": {"before": before[1], "after": after[1]},
    }
