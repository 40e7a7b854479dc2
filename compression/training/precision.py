"""The number format and memory layout of a training."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from compression.engine import Engine, Precision, choose_precision
from compression.training.batches import Batch
from compression.training.options import Training

_SHORT = 20.0
"""Seconds of training below which formats are not tried out: it is quick, and repeats on any machine."""
_PASSES = 3
"""What a step takes, in forward passes."""


def precision_of(engine: Engine, training: Training, batch: Batch, size: int, steps: int) -> Precision:
    """As asked for; `auto`: the fastest, measured, if the training is long enough. `size` samples at once."""
    match training.precision:
        case "float32":
            return Precision()
        case "bfloat16":
            return Precision(torch.bfloat16, channels_last=bool(engine.image_weights))
        case "auto":
            inputs = next(batch.parts(size)).inputs
            forward = min(_seconds(engine, inputs) for _ in range(2)) * len(batch) / size
            worth = forward * _PASSES * steps > _SHORT
            return choose_precision(engine, inputs) if worth else Precision()


def _seconds(engine: Engine, inputs: Mapping[str, Tensor]) -> float:
    """Of a forward pass; the engine ends in train mode."""
    engine.eval()
    begin = time.perf_counter()
    with torch.no_grad():
        engine(inputs)
    engine.train()
    return time.perf_counter() - begin
