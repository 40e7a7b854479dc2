"""How a dense convolution is rewritten, and what it costs then."""

from dataclasses import dataclass

import numpy as np

from compression.factorization.chains import ELEMENT, NODE, Cost
from compression.factorization.layers import Layer

FEWEST = 8
"""Channels read, below which a dense convolution is cheap as it is: the first of a network of images."""


@dataclass(frozen=True, order=True)
class Form:
    """Convolutions within groups of `channels` channels, to `rank` channels each, and a 1 x 1 over all."""

    channels: int
    rank: int

    @property
    def depthwise(self) -> bool:
        return self.channels == 1

    @property
    def parts(self) -> int:
        """Convolutions in front of the 1 x 1. Of depthwise ones each gives one channel for each that it
        reads: ONNX Runtime has fast kernels for no other kind (two at once took twice as long as two of
        them).
        """
        return self.rank if self.depthwise else 1


def fits(layer: Layer, form: Form) -> bool:
    """Whether a layer can be written so, with more than one group."""
    groups, left = divmod(layer.inputs, form.channels)
    most = min(layer.outputs, form.channels * layer.windows.points)
    return groups > 1 and not left and form.rank <= most


def dense(layer: Layer) -> bool:
    """Whether a layer is a convolution of some size: a kernel of more than one point."""
    return layer.convolves and layer.windows.points > 1 and layer.inputs >= FEWEST


def cost(layer: Layer, form: Form) -> Cost:
    """Of one sample. The parts are joined by a Concat, which writes them once more."""
    positions = int(np.prod(layer.made))
    between = layer.inputs // form.channels * form.rank
    params = between * (form.channels * layer.windows.points + layer.outputs)
    written = (between * (2 if form.parts > 1 else 1) + layer.outputs) * positions
    nodes = form.parts + (2 if form.parts > 1 else 1)
    macs = params * positions
    return Cost(macs, params, macs + ELEMENT * written + NODE * nodes)
