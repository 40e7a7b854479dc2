"""Dense convolutions of a network rewritten, and the training after it."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.factorization.chains import whole
from compression.factorization.observation import Samples
from compression.model import Model
from compression.rewriting.choosing import Network, chosen
from compression.rewriting.forms import Form, cost
from compression.rewriting.options import Options
from compression.technique import Context
from compression.training.checkpoint import Checkpoint
from compression.training.loop import Stage
from compression.training.tuning import fine_tune

_CHOOSING = 0.2
"""Share of the step's progress."""


def rewrite(model: Model, options: Options, context: Context) -> tuple[Model, Mapping[str, Any]]:
    """The rewritten model, and what there is to say of it.

    A run that was interrupted takes the forms of its checkpoint and goes on with the training.

    Errors: CompressionError `nothing_to_rewrite`, `target_unreachable`, `unknown_layer`, and those of
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
    )
    network = Network(start.proto, options, using)
    forms = _forms(network, options, context)
    lighter = Model(network.written(forms))
    details = _details(network, forms, lighter)
    if options.training is None or not options.training.epochs:
        return lighter, details
    notes = {"forms": {name: [form.channels, form.rank] for name, form in forms.items()}}
    trained, recovery = fine_tune(
        lighter,
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
        return {name: Form(*form) for name, form in checkpoint.notes["forms"].items()}
    return chosen(network, options)


def _details(network: Network, forms: Mapping[str, Form], lighter: Model) -> dict[str, Any]:
    layers, saved = {}, 0
    for name, form in forms.items():
        layer = network.layers[name]
        before, after = whole(layer), cost(layer, form)
        saved += before.macs - after.macs
        layers[name] = {
            "groups": layer.inputs // form.channels,
            "channels": form.channels,
            "rank": form.rank,
            "error": network.separated(layer, form).error,
            "macs": {"before": before.macs, "after": after.macs},
        }
    return {
        "layers": layers,
        "dense": [name for name in network.layers if name not in forms],
        "macs": {
            "before": network.macs,
            "after": network.macs - saved if network.macs is not None else None,
        },
        "params": {"before": network.params, "after": lighter.inspect().params},
    }
