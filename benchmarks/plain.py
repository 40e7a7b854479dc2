"""Fine-tuning as a peer's own example script would: a plain torch loop on labels."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.fashion import example
from benchmarks.twin import BATCH, PIXEL, Images


class Budget(NamedTuple):
    """The same for peers as for the techniques: epochs and images; rate and decay are a peer's own."""

    epochs: float
    seed: int
    rate: float = 0.02
    decay: float = 5e-4
    augment: bool = False


def fine_tune(
    module: nn.Module, images: Images, budget: Budget, before_step: Callable[[int, int], None] | None = None
) -> None:
    """SGD with Nesterov momentum, a cosine after a short warm-up, bfloat16 and channels last."""
    generator = torch.Generator().manual_seed(budget.seed)
    torch.manual_seed(budget.seed)
    module.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    per_epoch = len(images.train) // BATCH
    steps = math.ceil(per_epoch * budget.epochs)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=budget.rate, momentum=0.9, nesterov=True, weight_decay=budget.decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images.train), generator=generator)
        if before_step is not None:
            before_step(step, steps)
        index = order[step % per_epoch * BATCH :][:BATCH]
        _step(module, optimizer, images.train[index], images.labels[index], budget.augment)
        schedule.step()
    module.eval()


def _share(step: int, steps: int) -> float:
    """Of the highest rate."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _step(
    module: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, augment: bool
) -> None:
    batch = (example.shift_and_flip(pixels) if augment else pixels).float() / PIXEL
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = module(batch.to(memory_format=torch.channels_last))
    loss = nn.functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
