"""Learnt step sizes (LSQ: Esser et al. 2020, arXiv:1902.08153): the scales of weights and activations are
trained by gradient; zero points stay as calibrated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from compression.engine import Engine
from compression.graph.fake_quantization import Quantizer
from compression.graph.qdq import Scheme
from compression.kernels.rounding import largest

SMALLEST = 1 / 64
"""Of its first value: a scale stays positive, whatever the optimizer does."""


def sizes(engine: Engine, sample: Mapping[str, Tensor]) -> Counter[str]:
    """How many values of a sample each scale rounds."""
    found = Counter[str]()
    engine.observer = lambda scale, x: found.update({scale: x.numel()})
    with torch.no_grad():
        engine.eval()(sample)
    engine.observer = None
    return found


class LearntScales:
    """Makes the scales of an engine Parameters. Their gradients are multiplied by 1 / sqrt(N Q), where N
    values of a sample share the scale and Q integers are above zero: relative to themselves, scales then move
    about as fast as weights.
    """

    def __init__(
        self, engine: Engine, quantizers: Sequence[Quantizer], rounds: Mapping[str, int], scheme: Scheme
    ) -> None:
        """`rounds`: the `sizes` of one sample."""
        found = {quantizer.scale: quantizer for quantizer in quantizers}
        engine.learn(found)
        values = engine.values()
        for name, quantizer in found.items():
            values_each = rounds[name] / values[name].numel()
            factor = (values_each * _above_zero(quantizer, values, scheme)) ** -0.5
            values[name].register_hook(partial(torch.mul, other=factor))  # type: ignore[no-untyped-call]
        self._scales = [(values[name], values[name].detach() * SMALLEST) for name in found]

    def before_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_step(self, step: int, steps: int) -> None:  # noqa: ARG002
        with torch.no_grad():
            for scale, least in self._scales:
                torch.maximum(scale, least, out=scale)

    def after_training(self) -> None:
        """Nothing."""

    def state(self) -> dict[str, Tensor]:
        """Nothing: scales are Parameters."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""


def _above_zero(quantizer: Quantizer, values: Mapping[str, Tensor], scheme: Scheme) -> int:
    if quantizer.is_weight:
        return largest(scheme.weight_bits)
    return max(int(2**scheme.activation_bits - 1 - values[quantizer.zero_point].item()), 1)
