"""Proposals: each technique says for itself what is worth trying. Search and advice know no technique."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from compression.technique import Technique

Confidence = Literal["low", "medium", "high"]


class Stage(IntEnum):
    """Where in a pipeline a technique belongs: what a later one does, an earlier one would undo."""

    GRAPH = 0
    """The same function, written shorter."""
    STRUCTURE = 1
    """Fewer or smaller layers."""
    SPARSITY = 2
    """Weights that are zero or shared: a smaller download."""
    PRECISION = 3
    """Fewer bits."""


@dataclass(frozen=True)
class Proposal:
    """A step with what to expect of it, as factors (2.0: half as large, half the time): estimates from what
    was measured on models of the kind. `drop` in points of the metric, or as a share of the original's value
    where it has no upper end (0.01: one point, one hundredth).
    """

    step: "Technique"
    smaller: float
    """Of the download (zstd)."""
    faster: float
    drop: float
    confidence: Confidence
    why: str
    """A sentence for the user: why this step, on this model."""
