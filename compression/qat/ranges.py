"""Ranges that follow the data: those of activations a moving average of the extremes of each batch, those of
weights the weights themselves. For the last steps both are frozen (Jacob et al. 2018, arXiv:1712.05877,
section 3.1).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compression.engine import Engine
from compression.graph.fake_quantization import Quantizer
from compression.graph.qdq import Scheme
from compression.kernels.ranges import Range

MOMENTUM = 0.95
"""What is left of a range after one step."""
UNLIMITED = Range(-torch.inf, torch.inf)


class RunningRanges:
    """Sets scales and zero points of an engine from step to step, until a share of them is done.

    The scale of a weight keeps its ratio to the largest weight, so that what calibration found best to clip
    stays clipped.
    """

    def __init__(
        self,
        engine: Engine,
        quantizers: Sequence[Quantizer],
        limits: Mapping[str, Range],
        scheme: Scheme,
        freeze_after: float,
    ) -> None:
        """`limits` of tensors that an activation limited which their rounding now replaces."""
        self._engine, self._scheme, self._freeze_after = engine, scheme, freeze_after
        values = self._values = engine.values()
        self._weights = [one for one in quantizers if one.is_weight]
        self._shares = {one.scale: values[one.scale] / self._peak(one) for one in self._weights}
        self._activations = {one.scale: one for one in reversed(quantizers) if not one.is_weight}
        self._limits = {scale: limits.get(one.tensor, UNLIMITED) for scale, one in self._activations.items()}
        self._ranges = {scale: self._range(one) for scale, one in self._activations.items()}

    def before_step(self, step: int, steps: int) -> None:
        self._engine.observer = self._observe if self._follows(step, steps) else None

    def after_step(self, step: int, steps: int) -> None:
        self._engine.observer = None
        if self._follows(step, steps):
            self._set()

    def after_training(self) -> None:
        """Nothing: the scales that the weights were trained with stay."""

    def state(self) -> dict[str, Tensor]:
        """Extremes by scale, and the scales of the weights."""
        return self._ranges | {one.scale: self._values[one.scale] for one in self._weights}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, value in state.items():
            (self._ranges if name in self._ranges else self._values)[name].copy_(value)
        self._set_activations()

    def _follows(self, step: int, steps: int) -> bool:
        return step < self._freeze_after * steps

    def _observe(self, scale: str, x: Tensor) -> None:
        if scale in self._ranges:
            seen = torch.stack(x.aminmax()).clamp(*self._limits[scale])
            self._ranges[scale].lerp_(seen.to(self._ranges[scale]), 1 - MOMENTUM)

    def _set(self) -> None:
        self._set_activations()
        for one in self._weights:
            followed = self._peak(one) * self._shares[one.scale]
            self._values[one.scale].copy_(followed)

    def _set_activations(self) -> None:
        for name, one in self._activations.items():
            grid = self._scheme.grid(Range(*self._ranges[name].tolist()))
            self._values[name].fill_(grid.scale)
            self._values[one.zero_point].fill_(grid.zero_point)

    def _range(self, one: Quantizer) -> Tensor:
        scale, zero = self._values[one.scale].item(), self._values[one.zero_point].item()
        levels = 2**self._scheme.activation_bits - 1
        return torch.tensor([-zero * scale, (levels - zero) * scale], device=self._engine.device)

    def _peak(self, one: Quantizer) -> Tensor:
        """The largest weight that shares a scale; 1 where all are 0."""
        weight, scale = self._values[one.tensor].detach().abs(), self._values[one.scale]
        peak = weight.transpose(0, one.axis).flatten(1).amax(1) if scale.dim() else weight.max()
        return torch.where(peak > 0, peak, 1)
