"""What can be set of a factorisation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from compression.factorization.chains import Form, Method
from compression.training.options import Training

Target = Literal["macs", "params"]
Criterion = Literal["outputs", "layers"]


@dataclass(frozen=True)
class Options:
    """Those of the technique, which documents them."""

    ratio: float
    target: Target
    energy: float | None
    criterion: Criterion
    methods: Collection[Method]
    round_to: int
    faster: bool
    exclude: Collection[str]
    samples: int
    forms: Mapping[str, Form] | None
    training: Training | None
