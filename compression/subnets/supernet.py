"""Supernet: one network whose sub-networks share its weights and are trained together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compression.dataset import Array
from compression.engine import Engine
from compression.graph import channels
from compression.model import Model
from compression.subnets.network import Network
from compression.subnets.space import Space, Subnet
from compression.training.batches import Batch
from compression.training.objective import Objective

Draw = Callable[[int], Sequence[Subnet]]
"""Sub-networks by chance, for a step; always the same for the same step."""
_CACHED = 4
"""Sub-networks that are kept ready to run; the smallest comes back at every step."""


@dataclass(frozen=True)
class _Part:
    """A sub-network, and where its weights lie in those of the whole."""

    engine: Engine
    slices: Mapping[str, Sequence[tuple[int, Tensor]]]
    """Axes and the indices that stay, by tensor."""


class Supernet:
    """What a training needs to train sub-networks along with the whole network, by the sandwich rule (Yu and
    Huang 2019, arXiv:1903.05134): at each step the largest, the smallest and some by chance, each running
    with batch statistics of its own.

    An `Extension` of the loop; `objective` and `attach` are for `fine_tune`. Cost of a step: that of the
    largest plus those of the others, whose activations are in memory together.
    """

    def __init__(self, space: Space, feeds: Mapping[str, Array], draw: Draw) -> None:
        self.space, self._feeds, self._draw = space, feeds, draw
        self._chosen: list[Subnet] = []
        self._part = lru_cache(_CACHED)(self._made)

    def objective(self, *given: Any) -> Objective:
        """Made of what `Objective.of` is given."""
        self.goal = _Sandwich.of(*given)
        self.goal.supernet = self
        return self.goal

    def attach(self, engine: Engine) -> Sequence["Supernet"]:
        self.engine = engine
        self._network = Network(engine.model, self._feeds)
        return (self,)

    def others(self, inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Outputs of the sub-networks of this step."""
        return [self._run(self._part(subnet), inputs) for subnet in self._chosen]

    def trained(self) -> Network:
        """The whole network as it is now, its BatchNormalization as it was trained."""
        return Network(self.engine.write_back(), self._feeds)

    def before_step(self, step: int, steps: int) -> None:  # noqa: ARG002
        self._chosen = [self.space.smallest, *self._draw(step)]

    def after_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_training(self) -> None:
        self._part.cache_clear()

    def state(self) -> dict[str, Tensor]:
        """Nothing: what is drawn depends on the step alone."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""

    def _made(self, subnet: Subnet) -> _Part:
        kept = self.space.kept(subnet)
        engine = Engine.from_model(Model(self._network.carved(kept, subnet.dropped)))
        masks = channels.masks(self._network.looked, kept)
        slices = {
            name: [(axis, torch.from_numpy(np.flatnonzero(mask))) for axis, mask in axes.items()]
            for name, axes in masks.items()
        }
        return _Part(engine, slices)

    def _run(self, part: _Part, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        whole, own = self.engine, part.engine
        own.train(whole.training)
        own.frozen_statistics = whole.frozen_statistics
        own.autocast, own.channels_last = whole.autocast, whole.channels_last
        shared = {
            name: _sliced(value, part.slices.get(name, ()))
            for name, value in whole.parameters_by_role()
            if name in own.roles
        }
        return own.evaluate(inputs, shared)


def _sliced(value: Tensor, axes: Sequence[tuple[int, Tensor]]) -> Tensor:
    for axis, indices in axes:
        value = value.index_select(axis, indices)
    return value


@dataclass
class _Sandwich(Objective):
    """In training the mean over the whole network and the sub-networks of the step; else of the whole."""

    supernet: Supernet | None = None

    def __call__(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        loss = super().__call__(outputs, batch)
        if self.supernet is None or not torch.is_grad_enabled():
            return loss
        losses = [super(_Sandwich, self).__call__(one, batch) for one in self.supernet.others(batch.inputs)]
        return torch.stack([loss, *losses]).mean()
