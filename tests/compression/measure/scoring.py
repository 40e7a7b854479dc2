"""Scores are fed in batches and read; intervals are tried on many data sets of a known law."""

from collections.abc import Callable
from typing import Any

import numpy as np

from compression.measure.score import Score
from compression.measurement import Metric

Array = np.ndarray[Any, np.dtype[Any]]


def read(score: Score, output: Array, labels: Array, size: int = 7) -> dict[str, Metric]:
    """By name, in their order; `size` samples at once."""
    for start in range(0, len(labels), size):
        score.add(output[start : start + size], labels[start : start + size])
    return {metric.name: metric for metric in score.metrics()}


def coverage(draw: Callable[[np.random.Generator], Metric], truth: float, times: int = 300) -> float:
    """Share of data sets whose interval holds the truth; 0.95 but for three standard errors of 0.013."""
    random = np.random.default_rng(5)
    intervals = [draw(random).ci95 for _ in range(times)]
    return float(np.mean([low <= truth <= high for low, high in intervals]))
