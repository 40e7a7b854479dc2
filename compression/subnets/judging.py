"""Judging sub-networks on samples that the supernet was not trained on."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from compression.dataset import Split
from compression.engine import Engine
from compression.graph import walk
from compression.model import Model
from compression.technique import Context
from compression.training.batches import Batches, Indices
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.validation import Validation, held_out

_BATCH = 128


class Judge:
    """Gives a network's `validation_loss` on the samples held out of training, and its metric there. Where
    none are held out, as of few samples, it looks at some of those trained on.
    """

    def __init__(self, objective: Objective, split: Split, training: Training, context: Context) -> None:
        self._split, self._objective, self._seed = split, objective, context.seed
        self._held, self._used = held_out(split, training, context.seed)

    def __call__(self, model: Model) -> dict[str, float]:
        batches = Batches(
            split=self._split,
            inputs=model.inputs,
            indices=self._used,
            size=_BATCH,
            seed=self._seed,
            teach=self._objective.teacher,
        )
        engine = Engine.from_model(model)
        return Validation(batches, self._rows(batches.fixed), self._objective).measure(engine, _BATCH)

    def _rows(self, fixed: int) -> Indices:
        return self._held if len(self._held) >= max(1, fixed) else self._used[: max(_BATCH, fixed)]


def recalibrated(model: Model, batches: Iterable[Mapping[str, Tensor]]) -> Model:
    """The network with its BatchNormalization's statistics those of these batches, the mean over them: those
    of a supernet are of the whole network, and wrong for each of its parts (arXiv:1903.05134, section 3.2).
    """
    engine = Engine.from_model(model).train()
    rates = _rates(model)
    if not rates:
        return model
    moving = {name: engine.values()[name] for name in rates}
    seen: dict[str, list[Tensor]] = {name: [] for name in rates}
    with torch.no_grad():
        for batch in batches:
            for value in moving.values():
                value.zero_()
            engine(batch)
            for name, value in moving.items():
                seen[name].append(value / rates[name])
        for name, value in moving.items():
            value.copy_(torch.stack(seen[name]).mean(0))
    return engine.write_back()


def _rates(model: Model) -> dict[str, float]:
    """How much of a batch's statistics goes into the running ones at each step, by their names."""
    return {
        name: 1 - cast("float", walk.attribute(node, "momentum", 0.9))
        for node in model.proto.graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
