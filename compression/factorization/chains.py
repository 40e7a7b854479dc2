"""Chains of small layers that take the place of one, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compression.factorization.layers import Layer, Sizes

Method = Literal["svd", "spatial", "tucker"]
ELEMENT, NODE = 28, 160_000
"""What an element that is written, and a node that is run, take as long as in multiply-accumulates: ONNX
Runtime on one core with AVX-512, convolutions of 32 to 256 channels on 7 x 7 to 56 x 56 positions (56 GMAC/s,
0.5 ns, 3 us).
"""


LEAST_GAIN = 1.1
"""What is expected to run faster must do so by this factor: an expectation is no measurement."""


@dataclass(frozen=True)
class Form:
    """How a layer is written. Ranks: of svd and spatial one, of tucker those of the inputs and of the
    outputs; a side of full rank has no link of its own.
    """

    method: Method
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Link:
    """One layer of a chain, [outputs, inputs] on the kernel's axes that it takes; a point on others."""

    outputs: int
    inputs: int
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    macs: int
    params: int
    expected: int
    """Time, in multiply-accumulates."""

    def beats(self, other: "Cost") -> bool:
        """Whether it is expected to run clearly faster."""
        return self.expected * LEAST_GAIN <= other.expected


def links(layer: Layer, form: Form) -> list[Link]:
    every = tuple(range(len(layer.windows.kernel)))
    outputs, inputs = layer.outputs, layer.inputs
    match form.method:
        case "svd":
            return [Link(form.ranks[0], inputs, every), Link(outputs, form.ranks[0], ())]
        case "spatial":
            return [Link(form.ranks[0], inputs, every[:1]), Link(outputs, form.ranks[0], every[1:])]
        case "tucker":
            narrow, wide = form.ranks
            first = [Link(narrow, inputs, ())] if narrow < inputs else []
            last = [Link(outputs, wide, ())] if wide < outputs else []
            return [*first, Link(wide, narrow, every), *last]


def cost(layer: Layer, chain: Sequence[Link]) -> Cost:
    """Of one sample."""
    sizes, macs, params, written = list(layer.seen), 0, 0, 0
    for link in chain:
        for axis in link.axes:
            sizes[axis] = layer.made[axis]
        own = link.outputs * link.inputs * int(np.prod(_kernel(layer, link.axes)))
        params += own
        macs += own * int(np.prod(sizes))
        written += link.outputs * int(np.prod(sizes))
    return Cost(macs, params, macs + ELEMENT * written + NODE * len(chain))


def whole(layer: Layer) -> Cost:
    """Of the layer as it is."""
    return cost(layer, [Link(layer.outputs, layer.inputs, tuple(range(len(layer.windows.kernel))))])


def _kernel(layer: Layer, axes: tuple[int, ...]) -> Sizes:
    return tuple(layer.windows.kernel[axis] for axis in axes)
