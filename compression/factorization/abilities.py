"""What could be factorised in a model, told from shapes alone."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.factorization import layers
from compression.factorization.chains import Form, cost, links, whole
from compression.factorization.layers import Layer
from compression.graph import shares, weights
from compression.graph.channels import recording
from compression.model import Model

_QUARTER = 4
"""Of full rank: layers seldom keep their function with less."""


def factorisable(model: Model) -> Mapping[str, Any]:
    """How many layers are expected to run faster at a quarter of their rank, and their shares (0-1) of
    multiply-accumulates and parameters.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    ready = fold_batchnorm(normalise(model))
    feeds = next(samples.first(samples.made_up(ready, 0).split, ready.inputs, 1))
    shapes = recording.shapes(ready.proto, feeds)
    found = [layer for layer in layers.find(ready.proto, shapes) if _faster(layer)]
    share = shares.of_macs(ready.proto, ready.inputs, [layer.node for layer in found])
    params = sum(whole(layer).params for layer in found) / max(weights.params(ready.proto.graph), 1)
    return {"layers": len(found), "macs_share": share, "params_share": round(params, 4)}


def _faster(layer: Layer) -> bool:
    narrow, wide = max(1, layer.inputs // _QUARTER), max(1, layer.outputs // _QUARTER)
    form = Form("svd", (min(narrow, wide),))
    if layer.windows.points > 1:
        form = Form("tucker", (narrow, wide))
    return cost(layer, links(layer, form)).beats(whole(layer))
