"""What was lost between two models that were judged on the same samples.

Most samples are easy, or hard, for both: differences vary far less than two accuracies measured apart would
make one believe.
"""

import math
from dataclasses import dataclass

import numpy as np

from compression.dataset import Array
from compression.measure.sums import Z, half_width
from compression.measurement import Drop, Interval, Metric


@dataclass(frozen=True, eq=False)
class Answers:
    """Of a metric that is a share of samples: whether each, in order, was decided right."""

    right: Array


@dataclass(frozen=True, eq=False)
class Replicates:
    """Of any other metric: its value without each of the groups that `sums` puts samples in."""

    values: Array


Evidence = Answers | Replicates
"""What a score knows of its first metric, besides its value."""


def drop(metrics: tuple[Metric, Metric], evidence: tuple[Evidence, Evidence]) -> Drop | None:
    """Of the original's metric and the other's. None where the loss is no number: a share of nothing."""
    before, after = metrics
    value = before.loss(after)
    if not math.isfinite(value):
        return None
    return Drop(metric=before.name, value=value, ci95=_interval(metrics, evidence, value), n=before.n)


def _interval(
    metrics: tuple[Metric, Metric], evidence: tuple[Evidence, Evidence], value: float
) -> Interval | None:
    match evidence:
        case (Answers(before), Answers(after)):
            return difference(*discordant(before, after), len(before))
        case (Replicates(before), Replicates(after)):
            return _jackknife(metrics, before, after, value)
        case _:
            raise TypeError("one metric is told from answers, the other from replicates")


def discordant(before: Array, after: Array) -> tuple[int, int]:
    """How many samples only the first has right, and how many only the second."""
    return int((before & ~after).sum()), int((after & ~before).sum())


def difference(lost: int, gained: int, n: int, z: float = Z) -> Interval:
    """Of two shares of the same n samples: Wald's with the Laplace adjustment of Bonett and Price (2012),
    which adds one sample that is lost and one that is gained, so that few samples, or none that differ, are
    not taken for certainty; recommended by Fagerland, Lydersen and Laake (2014).
    """
    only_before, only_after = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    centre = only_before - only_after
    half = z * math.sqrt(max(only_before + only_after - centre**2, 0.0) / (n + 2))
    return max(-1.0, centre - half), min(1.0, centre + half)


def _jackknife(metrics: tuple[Metric, Metric], before: Array, after: Array, value: float) -> Interval | None:
    """The same group is left out of both."""
    losses = np.array(
        [
            metrics[0].model_copy(update={"value": one}).loss(metrics[1].model_copy(update={"value": other}))
            for one, other in zip(before.tolist(), after.tolist(), strict=True)
        ]
    )
    if len(losses) < 2 or not np.isfinite(losses).all():
        return None
    half = half_width(losses, value)
    return value - half, value + half
