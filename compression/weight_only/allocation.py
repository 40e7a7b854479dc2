"""Which matrices get 8 bits where the others get 4."""

from collections.abc import Sequence
from dataclasses import dataclass

LOW, HIGH = 4, 8


@dataclass(frozen=True)
class Layer:
    name: str
    elements: int
    noise: float
    """Of the outputs, over their power: the inverse of the SQNR, with `LOW` bits."""


def more_bits(layers: Sequence[Layer], average: float) -> set[str]:
    """The noisiest first, as long as the mean over all elements stays within `average` bits."""
    left = (average - LOW) * sum(layer.elements for layer in layers)
    chosen = set()
    for layer in sorted(layers, key=lambda layer: -layer.noise):
        cost = (HIGH - LOW) * layer.elements
        if cost <= left:
            chosen.add(layer.name)
            left -= cost
    return chosen
