"""What can be set of a search for sub-networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compression.pruning.costs import Target
from compression.pruning.criteria import Criterion
from compression.training.options import Training

Sampler = Literal["nsga2", "tpe", "local"]


@dataclass(frozen=True)
class Options:
    """Those of the technique, which documents them."""

    ratio: float
    target: Target
    widths: Sequence[float]
    depth: bool
    round_to: int
    criterion: Criterion
    samples: int
    subnets: int
    trials: int
    population: int
    sampler: Sampler
    finalists: int
    final_epochs: float
    training: Training | None
    """Of the supernet; None: there is none."""
    recovery: Training | None
