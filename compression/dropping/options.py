"""What can be set of layer dropping."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from compression.training.options import Training

Unit = Literal["block", "layer"]
Target = Literal["macs", "params", "latency"]
Criterion = Literal["outputs", "influence"]


@dataclass(frozen=True)
class Options:
    """Those of the technique, which documents them."""

    unit: Unit
    count: int | None
    ratio: float
    target: Target
    criterion: Criterion
    keep_first: int
    keep_last: int
    exclude: Collection[str]
    samples: int
    dropped: Sequence[str] | None
    training: Training | None
