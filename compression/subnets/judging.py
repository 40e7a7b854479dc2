"""Judging sub-networks on samples that the supernet was not trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from compression.dataset import Split
from compression.engine import Engine, Precision, use_precision
from compression.graph import walk
from compression.model import Model
from compression.technique import Context
from compression.training.batches import Batches
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.validation import Validation, held_out

_BATCH = 128


@dataclass(frozen=True)
class Judge:
    """Gives a network's `validation_loss` on the samples held out of training, and its metric there. Where
    none are held out, as of few samples, it looks at some of those trained on.
    """

    objective: Objective
    split: Split
    training: Training
    context: Context
    calibration: Sequence[Mapping[str, Tensor]]
    """Batches that statistics of BatchNormalization are taken from; none: they are right already."""
    precision: Precision

    def __call__(self, model: Model) -> dict[str, float]:
        held, used = held_out(self.split, self.training, self.context.seed)
        batches = Batches(
            split=self.split,
            inputs=model.inputs,
            indices=used,
            size=_BATCH,
            seed=self.context.seed,
            teach=self.objective.teacher,
        )
        rows = held if len(held) >= max(1, batches.fixed) else used[: max(_BATCH, batches.fixed)]
        engine = Engine.from_model(recalibrated(model, self.calibration, self.precision))
        use_precision(engine, self.precision)
        return Validation(batches, rows, self.objective).measure(engine, _BATCH)


def recalibrated(
    model: Model,
    batches: Sequence[Mapping[str, Tensor]],
    precision: Precision = Precision(),  # noqa: B008  immutable
) -> Model:
    """The network with its BatchNormalization's statistics those of these batches, the mean over them: those
    of a supernet are of the whole network, and wrong for each of its parts (arXiv:1903.05134, section 3.2).
    Without batches they stay.
    """
    rates = _rates(model)
    if not rates or not batches:
        return model
    engine = Engine.from_model(model).train()
    use_precision(engine, precision)
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
