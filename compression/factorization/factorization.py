"""Low-rank factorisation of a network, and the recovery after it."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.factorization.chains import Form, whole
from compression.factorization.choosing import Candidate, Network, chosen
from compression.factorization.observation import Samples
from compression.factorization.options import Options
from compression.model import Model
from compression.technique import Context
from compression.training.checkpoint import Checkpoint
from compression.training.loop import Stage
from compression.training.tuning import fine_tune

_CHOOSING = 0.2
"""Share of the step's progress."""


def factorise(model: Model, options: Options, context: Context) -> tuple[Model, Mapping[str, Any]]:
    """The factorised model, and what there is to say of it.

    A run that was interrupted takes the forms of its checkpoint and goes on with the training.

    Errors: CompressionError `nothing_to_factorize`, `target_unreachable`, `unknown_layer`, and those of
    training.
    """
    start = fold_batchnorm(normalise(model))
    context.report(0.0, "looking at what layers read")
    using = Samples(
        samples.looked_at(start, context.data, context.seed),
        options.samples,
        context.threads,
        context.scratch,
        context.seed,
        context.task,
    )
    network = Network(start.proto, options, using)
    picked = _picked(network, options, context)
    forms = {name: candidate.form for name, candidate in picked.items()}
    smaller = Model(network.written(forms))
    details = _details(network, picked, smaller)
    if options.training is None or not options.training.epochs:
        return smaller, details
    notes = {"forms": {name: [form.method, *form.ranks] for name, form in forms.items()}}
    trained, recovery = fine_tune(
        smaller,
        options.training,
        context,
        teacher=context.original or start,
        stage=Stage("recovery", notes, (_CHOOSING, 1 - _CHOOSING)),
        renormalise=True,
    )
    return trained, {**details, "recovery": recovery}


def _picked(network: Network, options: Options, context: Context) -> dict[str, Candidate]:
    checkpoint = Checkpoint.open(context.resume)
    if checkpoint is None or "forms" not in checkpoint.notes:
        return chosen(network, options)
    forms = checkpoint.notes["forms"].items()
    return {name: network.given(name, Form(method, tuple(ranks))) for name, (method, *ranks) in forms}


def _details(network: Network, picked: Mapping[str, Candidate], smaller: Model) -> dict[str, Any]:
    layers = {}
    saved = 0
    for name, candidate in picked.items():
        before, after = whole(network.layers[name]).macs, candidate.cost.macs
        saved += before - after
        layers[name] = {
            "method": candidate.form.method,
            "ranks": list(candidate.form.ranks),
            "error": candidate.error,
            "loss": candidate.loss,
            "macs": {"before": before, "after": after},
        }
    return {
        "layers": layers,
        "skipped": network.skipped,
        "macs": {"before": network.macs, "after": network.macs and network.macs - saved},
        "params": {"before": network.params, "after": smaller.inspect().params},
    }
