"""What could be dropped of a model at most."""

from collections.abc import Mapping
from typing import Any

from compression import samples
from compression.dropping import parts
from compression.engine import fold_batchnorm, normalise
from compression.graph import weights
from compression.graph.channels import recording
from compression.model import Model


def droppable(model: Model) -> Mapping[str, Any]:
    """Blocks by their outputs, how many layers they make, and the share (0-1) of parameters in them.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    ready = fold_batchnorm(normalise(model))
    feeds = next(samples.first(samples.made_up(ready, 0).split, ready.inputs, 1))
    shapes = recording.shapes(ready.proto, feeds)
    found = parts.find(ready.proto.graph, shapes, "block")
    left = ready.proto
    while rest := parts.find(left.graph, shapes, "block"):
        left = parts.without(left, rest[-1])
    before, after = (weights.params(one.graph) for one in (ready.proto, left))
    return {
        "blocks": [part.name for part in found],
        "layers": len(parts.find(ready.proto.graph, shapes, "layer")),
        "params_share": round(1 - after / before, 4) if before else 0.0,
    }
