"""What each layer loses by fewer bits, and by computing in integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.graph.precision import FLOAT, HALF
from compression.kernels.allocation import Choice
from compression.model import Model
from compression.sensitivity.options import Name, Options, Using
from compression.sensitivity.scan import scan

EIGHT, FOUR = 8, 4
HALF_NOISE = 2.0**-22
"""Of float16, 11 bits of mantissa, to signal."""


@dataclass(frozen=True)
class Losses:
    """By name of the layer's node. Noise is relative to the outputs' signal, and that of layers adds up."""

    weights: Mapping[str, Mapping[int, Choice]]
    """By bits: bytes of the weight, and noise where the layer computes in floats."""
    integers: Mapping[str, float]
    """Noise that computing in int8 adds to that; layers that cannot are missing."""

    @property
    def elements(self) -> int:
        return sum(
            round(choice.cost * 8 / bits)
            for own in self.weights.values()
            for bits, choice in list(own.items())[:1]
        )

    def in_integers(self, layer: str) -> dict[int, Choice]:
        """By bits, of the layer computing in int8."""
        added = self.integers[layer]
        return {
            bits: Choice(choice.cost, choice.loss + added)
            for bits, choice in self.weights[layer].items()
            if bits <= EIGHT
        }


def measure(model: Model, bits: Sequence[int], samples: int, exclude: Sequence[str], using: Using) -> Losses:
    """Each layer alone, on so many samples. Errors: those of `scan`."""
    small = tuple(own for own in bits if own <= EIGHT)
    techniques: tuple[Name, ...] = ("static_quantization", "weight_quantization") if small else ()
    found = scan(model, Options(techniques, samples, exclude, (*small, EIGHT)), using)
    noise = {(row.technique, row.layer, row.setting["bits"]): row.noise for row in found.rows}
    weights = {
        layer: {
            own: Choice(
                size * own / 8, _wide(own) if own > EIGHT else noise["weight_quantization", layer, own]
            )
            for own in bits
        }
        for layer, size in found.sizes.items()
    }
    integers = {
        layer: max(lost - noise["weight_quantization", layer, EIGHT], 0.0)
        for (technique, layer, _), lost in noise.items()
        if technique == "static_quantization"
    }
    return Losses(weights, integers)


def _wide(bits: int) -> float:
    return {HALF: HALF_NOISE, FLOAT: 0.0}[bits]
