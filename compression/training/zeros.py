"""Zeros of a pruned network that stay zeros whatever is trained afterwards (as TFMOT's sparsity-preserving
quantization-aware training).
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class HeldZeros:
    """Weights that are exactly 0 at the start are so after every step."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._held = [(weight, weight == 0) for weight in weights if bool((weight == 0).any())]

    def before_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_step(self, step: int, steps: int) -> None:  # noqa: ARG002
        self._put()

    def after_training(self) -> None:
        self._put()  # averages were taken between a step and its zeros

    def _put(self) -> None:
        with torch.no_grad():
            for weight, zeros in self._held:
                weight.masked_fill_(zeros, 0)

    def state(self) -> dict[str, Tensor]:
        """Nothing: the zeros are those of the model."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""
