"""Validation: the samples held out of training, and what they say of it."""

from dataclasses import dataclass

import numpy as np
import torch

from compression.dataset import Split
from compression.engine import Engine
from compression.training.batches import Batches, Indices
from compression.training.objective import Objective
from compression.training.options import Training


def held_out(split: Split, training: Training, seed: int) -> tuple[Indices, Indices]:
    """Samples for validation and those trained on, both ascending; drawn by the seed."""
    count = min(training.validation, split.n // 10)
    order = np.random.default_rng((seed, 3)).permutation(split.n)
    return np.sort(order[:count]), np.sort(order[count:])


@dataclass(frozen=True)
class Validation:
    batches: Batches
    indices: Indices
    objective: Objective

    def measure(self, engine: Engine, size: int) -> dict[str, float]:
        """`validation_loss` and the metric under its name; nothing where no sample is held out.

        At most `size` samples at once. The engine ends in train mode.
        """
        size = min(size, self.batches.size)
        count = len(self.indices)
        count -= count % self.batches.fixed if self.batches.fixed else 0
        sums: dict[str, float] = {}
        engine.eval()
        with torch.no_grad():
            for start in range(0, count, size):
                rows = self.indices[start : min(start + size, count)]
                for name, value in self._part(engine, rows).items():
                    sums[name] = sums.get(name, 0.0) + value * len(rows) / count
        engine.train()
        return sums

    def _part(self, engine: Engine, rows: Indices) -> dict[str, float]:
        batch = self.batches.of(rows)
        outputs = engine(batch.inputs)
        found = self.objective.scores(outputs, batch)
        loss = float(self.objective(outputs, batch))
        return {"validation_loss": loss} | ({found[0]: found[1]} if found is not None else {})
