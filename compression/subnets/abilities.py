"""What is elastic in a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.model import Model
from compression.subnets.network import Network
from compression.subnets.space import Space, widths


def elastic(model: Model, shares: Sequence[float], round_to: int) -> Mapping[str, Any]:
    """Groups with the numbers of units that they may have, residual blocks that may be left out, and the
    shares (0-1) of multiply-accumulates and parameters that the smallest sub-network saves.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    ready = fold_batchnorm(normalise(model))
    network = Network(ready, next(samples.first(samples.made_up(ready, 0).split, ready.inputs, 1)))
    sizes = {name: group.size for name, group in network.groups.items()}
    counts = widths(sizes, shares, round_to)
    space = Space({name: np.zeros(sizes[name]) for name in counts}, counts, network.blocks)
    smallest = network.cost(space.kept(space.smallest), space.smallest.dropped)
    saved = {
        f"searchable_{name}": round(1 - after / before, 4) if before and after is not None else None
        for name, before, after in zip(("macs", "params"), network.cost({}, ()), smallest, strict=True)
    }
    allowed = {name: list(own) for name, own in counts.items()}
    return {"widths": allowed, "blocks": list(space.blocks), **saved}
