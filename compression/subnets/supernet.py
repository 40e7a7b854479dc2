"""Supernet: one network whose sub-networks share its weights and are trained together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compression.dataset import Array
from compression.engine import Engine, Role
from compression.graph import channels
from compression.model import Model
from compression.subnets.network import Network
from compression.subnets.space import Space, Subnet
from compression.training.batches import Batch
from compression.training.objective import Objective


@dataclass(frozen=True)
class Sandwich:
    """What is trained at each step (Yu and Huang 2019, arXiv:1903.05134), within a budget: the
    original teaches, and is no part of it.
    """

    largest: Subnet
    smallest: Subnet
    draw: Callable[[int], Sequence[Subnet]]
    """Others by chance, for a step; always the same for the same step."""


@dataclass(frozen=True)
class _Part:
    """A sub-network, and where its weights lie in those of the whole."""

    engine: Engine
    slices: Mapping[str, Sequence[tuple[int, Tensor]]]
    """Axes and the indices that stay, by tensor."""


class Supernet:
    """What a training needs to train sub-networks, each with batch statistics of its own, on the weights of
    one network.

    An `Extension` of the loop; `objective` and `attach` are for `fine_tune`. The loop sees the largest.
    Cost of a step: that of all sub-networks of the step, whose activations are in memory together.
    """

    def __init__(self, space: Space, feeds: Mapping[str, Array], sandwich: Sandwich) -> None:
        self.space, self._feeds, self._sandwich = space, feeds, sandwich
        self._chosen: list[Subnet] = []

    def objective(self, *given: Any) -> Objective:
        """Made of what `Objective.of` is given."""
        self.goal = _Mean.of(*given)
        self.goal.supernet = self
        return self.goal

    def attach(self, engine: Engine) -> Sequence["Supernet"]:
        self.engine = engine
        self._network = Network(engine.model, self._feeds)
        self._largest, self._smallest = (
            self._made(self._sandwich.largest),
            self._made(self._sandwich.smallest),
        )
        engine.detour = lambda inputs: self._run(self._largest, inputs)
        return (self,)

    def others(self, inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Outputs of the sub-networks of this step but the largest."""
        parts = (self._smallest, *map(self._made, self._chosen))
        return [self._run(part, inputs) for part in parts]

    def trained(self) -> Network:
        """The whole network on the shared weights; the statistics of its BatchNormalization are nobody's."""
        return Network(self.engine.write_back(), self._feeds)

    def before_step(self, step: int, steps: int) -> None:  # noqa: ARG002
        self._chosen = list(self._sandwich.draw(step))

    def after_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_training(self) -> None:
        self.engine.detour = None

    def state(self) -> Mapping[str, Tensor]:
        """The statistics that the largest is validated with."""
        roles = self._largest.engine.roles
        values = self._largest.engine.values()
        return {name: value for name, value in values.items() if roles[name] is Role.STATISTIC}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])

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
class _Mean(Objective):
    """In training the mean over the sub-networks of the step; else of the largest."""

    supernet: Supernet | None = None

    def __call__(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        loss = super().__call__(outputs, batch)
        if self.supernet is None or not torch.is_grad_enabled():
            return loss
        losses = [super(_Mean, self).__call__(one, batch) for one in self.supernet.others(batch.inputs)]
        return torch.stack([loss, *losses]).mean()
