"""What a technique brings along to a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Extension(Protocol):
    """What a technique adds to the loop."""

    def before_step(self, step: int, steps: int) -> None:
        """Before the forward pass of step `step` of `steps`, from 0."""

    def after_step(self, step: int, steps: int) -> None:
        """After the weights have moved."""

    def after_training(self) -> None:
        """Once, when the final values (averaged, or the best) are in place."""

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint must hold."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Back to where it was."""


@dataclass(frozen=True)
class Stage:
    """One training of a step, and which part of the step's progress it is."""

    name: str = "training"
    notes: Mapping[str, Any] | None = None
    """JSON kept in checkpoints: what the technique did before, to be replayed."""
    span: tuple[float, float] = (0.0, 1.0)
    """Where in the step's progress it begins, and its share of it."""
