"""Which number format and memory layout this machine trains a model fastest in: measured, not guessed."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.engine.engine import Engine

GAIN = 1.05
"""A format other than the file's must be this much faster."""
ROUNDS = 3


@dataclass(frozen=True)
class Precision:
    autocast: torch.dtype | None = None
    channels_last: bool = False


def use_precision(engine: Engine, precision: Precision) -> None:
    engine.autocast, engine.channels_last = precision.autocast, precision.channels_last
    layout = torch.channels_last if precision.channels_last else torch.contiguous_format
    for name, parameter in engine.parameters_by_role():
        if name in engine.image_weights:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def choose_precision(engine: Engine, inputs: Mapping[str, Tensor]) -> Precision:
    """The fastest training step on this batch, forward and backward, interleaved, best of three each.
    Weights, statistics, gradients and the random state are left as they were; the choice is not applied.
    """
    candidates = list(_candidates(engine))
    best = dict.fromkeys(candidates, float("inf"))
    with _undisturbed(engine):
        for _ in range(ROUNDS + 1):
            for candidate in candidates:
                use_precision(engine, candidate)
                best[candidate] = min(best[candidate], _seconds(engine, inputs))
    fastest = min(candidates, key=best.__getitem__)
    return fastest if best[fastest] * GAIN < best[candidates[0]] else candidates[0]


def _candidates(engine: Engine) -> Iterator[Precision]:
    formats = [None, torch.bfloat16] if has_bfloat16(engine.device) else [None]
    for autocast in formats:
        yield Precision(autocast)
        if engine.image_weights:
            yield Precision(autocast, channels_last=True)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16, rather than emulates it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001


def _seconds(engine: Engine, inputs: Mapping[str, Tensor]) -> float:
    engine.zero_grad()
    begin = time.perf_counter()
    outputs = [
        value for value in engine(inputs).values() if isinstance(value, Tensor) and value.requires_grad
    ]
    torch.autograd.backward([value.float().mean() for value in outputs])
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


@contextmanager
def _undisturbed(engine: Engine) -> Iterator[None]:
    before = Precision(engine.autocast, engine.channels_last)
    training, frozen = engine.training, engine.frozen_statistics
    gradients = [(parameter, parameter.grad) for _, parameter in engine.parameters_by_role()]
    engine.train()
    engine.frozen_statistics = True
    with torch.random.fork_rng():
        yield
    engine.train(training)
    engine.frozen_statistics = frozen
    use_precision(engine, before)
    for parameter, gradient in gradients:
        parameter.grad = gradient
