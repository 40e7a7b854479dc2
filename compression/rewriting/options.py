"""What can be set of a rewriting."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compression.rewriting.forms import Form
from compression.training.options import Training


@dataclass(frozen=True)
class Options:
    """Those of the techniques, which document them."""

    forms: Collection[Form]
    """That a layer may take."""
    ratio: float
    faster: bool
    exclude: Collection[str]
    samples: int
    given: Mapping[str, Form] | None
    """Of layers by weight, where nothing is to be chosen."""
    training: Training | None
