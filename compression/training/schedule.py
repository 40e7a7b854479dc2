"""Learning rate over the steps."""

import math

from compression.training.options import Training


def rate(training: Training, step: int, steps: int) -> float:
    """Rises linearly, then falls as half a cosine to zero (Loshchilov and Hutter 2017) or stays."""
    warm = round(training.warmup * steps)
    if step < warm:
        return training.peak_rate * (step + 1) / (warm + 1)
    if training.schedule == "constant":
        return training.peak_rate
    return training.peak_rate * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
