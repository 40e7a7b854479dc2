"""Masks that hold while a network is trained."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compression.engine import Engine
from compression.errors import CompressionError, FieldError, Suggestion
from compression.graph.layers import Layer
from compression.sparsity.options import Schedule
from compression.sparsity.rule import Rule


class Masking:
    """Zeros more and more weights, by a schedule; an extension of the training loop.

    When masks are made anew, a weight that was zero may come back: the step before moves all weights, as in
    TFMOT.
    """

    def __init__(
        self, engine: Engine, layers: Sequence[Layer], rule: Rule, schedule: Schedule, sparsity: float
    ) -> None:
        self._engine, self._layers = engine, layers
        self._rule, self._schedule, self._final = rule, schedule, sparsity
        self._reached = -1.0
        self._zeros: dict[str, Tensor] = {}
        """Where they are."""

    def before_step(self, step: int, steps: int) -> None:
        """Errors: CompressionError `schedule_too_long`."""
        if self._schedule.end(steps) > steps:
            raise _too_long(self._schedule, steps)
        due = self._schedule.sparsity(step, steps, self._final)
        if due is not None:
            self._choose(due)

    def after_step(self, step: int, steps: int) -> None:
        if self._schedule.sparsity(step + 1, steps, self._final) is None:
            self._apply()

    def after_training(self) -> None:
        """The weights may be averaged ones, or the schedule may end with the training."""
        if self._reached != self._final:
            self._choose(self._final)
        self._apply()

    def state(self) -> Mapping[str, Tensor]:
        return {
            "reached": torch.tensor(self._reached, dtype=torch.float64),
            **{f"zeros/{name}": zeros for name, zeros in self._zeros.items()},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._zeros = {
            layer.weight: state[key] for layer in self._layers if (key := f"zeros/{layer.weight}") in state
        }
        self._reached = float(state["reached"])

    def _choose(self, sparsity: float) -> None:
        weights = self._weights()
        arrays = {name: weight.cpu().numpy() for name, weight in weights.items()}
        for name, mask in self._rule.choose(self._layers, arrays, sparsity):
            self._zeros[name] = torch.from_numpy(~mask).to(weights[name].device)
        self._reached = sparsity
        self._apply()

    def _apply(self) -> None:
        weights = self._weights()
        for name, zeros in self._zeros.items():
            weights[name].masked_fill_(zeros, 0)

    def _weights(self) -> dict[str, Tensor]:
        """As they are now: a change of the memory format replaces them."""
        values = self._engine.values()
        return {layer.weight: values[layer.weight].detach() for layer in self._layers}


def _too_long(schedule: Schedule, steps: int) -> CompressionError:
    end = schedule.end(steps)
    field = "begin_step" if schedule.kind == "constant" else "end_step"
    why = f"the schedule ends at step {end}, and the training has {steps} steps"
    way = Suggestion("Let the schedule follow the length of the training", {"schedule": {field: None}})
    return CompressionError(
        "schedule_too_long", why, errors=[FieldError(f"/schedule/{field}", why)], suggestions=[way]
    )
