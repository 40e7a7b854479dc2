"""Low-rank factorisation of a network, and the recovery after it."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.dataset import Split
from compression.engine import fold_batchnorm, normalise
from compression.factorization.chains import Form, cost, links, whole
from compression.factorization.choosing import Network, chosen
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
    using = Samples(_split(start, context), options.samples, context.threads, context.scratch, context.seed)
    network = Network(start.proto, options, using)
    forms = _forms(network, options, context)
    smaller = Model(network.written(forms))
    details = _details(network, forms, smaller)
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


def _forms(network: Network, options: Options, context: Context) -> dict[str, Form]:
    checkpoint = Checkpoint.open(context.resume)
    if checkpoint is not None and "forms" in checkpoint.notes:
        return {
            name: Form(method, tuple(ranks)) for name, (method, *ranks) in checkpoint.notes["forms"].items()
        }
    return chosen(network, options)


def _split(model: Model, context: Context) -> Split:
    data = context.data
    split = (data.split("calibration") or data.split("train")) if data is not None else None
    return split or samples.made_up(model, context.seed).split


def _details(network: Network, forms: Mapping[str, Form], smaller: Model) -> dict[str, Any]:
    layers = {}
    saved = 0
    for name, form in forms.items():
        layer = network.layers[name]
        before, after = whole(layer), cost(layer, links(layer, form))
        saved += before.macs - after.macs
        known = {one.form: one for one in network.candidates.get(name, ())}
        layers[name] = {
            "method": form.method,
            "ranks": list(form.ranks),
            "error": known[form].error if form in known else None,
            "loss": known[form].loss if form in known else None,
            "macs": {"before": before.macs, "after": after.macs},
        }
    after_macs = network.macs - saved if network.macs is not None else None
    return {
        "layers": layers,
        "macs": {"before": network.macs, "after": after_macs},
        "params": {"before": network.params, "after": smaller.inspect().params},
    }
