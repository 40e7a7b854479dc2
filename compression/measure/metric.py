"""The task metric: what the labels say of the outputs. Sums only, so memory is flat in the number
of samples.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from compression.dataset import Array
from compression.measurement import Interval, Metric

_Z = 1.959964
"""97.5 % quantile of the normal distribution."""


class Score(Protocol):
    def add(self, output: Array, labels: Array) -> None: ...

    def metric(self) -> Metric: ...


def wilson(correct: int, n: int) -> Interval:
    """95 % interval of a proportion (Wilson 1927)."""
    share, z2 = correct / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def class_axis(output: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """Where the classes of an output are, if its labels are indices: last ([N, T, C]) or second ([N, C, H,
    W]).
    """
    if len(output) != len(labels) + 1:
        return None
    for axis in (len(output) - 1, 1):
        if output[axis] > 1 and output[:axis] + output[axis + 1 :] == labels:
            return axis
    return None


class Accuracy:
    """Share of samples whose largest output is the label."""

    def __init__(self, axis: int) -> None:
        self.axis, self.correct, self.n = axis, 0, 0

    def add(self, output: Array, labels: Array) -> None:
        self.correct += int((output.argmax(self.axis) == labels).sum())
        self.n += len(labels)

    def metric(self) -> Metric:
        return Metric(
            name="accuracy", value=self.correct / self.n, ci95=wilson(self.correct, self.n), n=self.n
        )


class TokenAccuracy:
    """Share of labelled positions decided right; negative labels count for nothing.

    Positions of one sample are not independent: the interval is that of a ratio of sums over samples.
    """

    def __init__(self, axis: int) -> None:
        self.axis, self.n = axis, 0
        self.sums = np.zeros(2)
        self.squares = np.zeros((2, 2))

    def add(self, output: Array, labels: Array) -> None:
        axes = tuple(range(1, labels.ndim))
        counted = labels >= 0
        right = ((output.argmax(self.axis) == labels) & counted).sum(axes)
        pairs = np.stack([right, counted.sum(axes)]).astype(float)
        self.sums += pairs.sum(1)
        self.squares += pairs @ pairs.T
        self.n += len(labels)

    def metric(self) -> Metric:
        right, counted = self.sums
        value = right / max(counted, 1)
        weights = np.array([1.0, -value])
        spread = float(weights @ self.squares @ weights) ** 0.5 / max(counted, 1)
        low, high = max(0.0, value - _Z * spread), min(1.0, value + _Z * spread)
        return Metric(name="token_accuracy", value=float(value), ci95=(float(low), float(high)), n=self.n)


class RootMeanSquare:
    """RMSE over all values; the interval follows from the spread of the samples' own mean squares."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, output: Array, labels: Array) -> None:
        error = output.reshape(labels.shape).astype(float) - labels
        own = (error**2).reshape(len(labels), -1).mean(1)
        self.n += len(own)
        self.total += float(own.sum())
        self.squares += float((own**2).sum())

    def metric(self) -> Metric:
        mean = self.total / self.n
        spread = max(0.0, self.squares / self.n - mean * mean) ** 0.5 / self.n**0.5
        low, high = max(0.0, mean - _Z * spread) ** 0.5, (mean + _Z * spread) ** 0.5
        return Metric(name="rmse", value=mean**0.5, ci95=(low, high), n=self.n, higher_is_better=False)


def choose(outputs: Mapping[str, Array], labels: Array) -> tuple[str, Score] | None:
    """The first output that the labels can be about, and how it is scored; None if there is none."""
    for name, output in outputs.items():
        score = _score(output, labels)
        if score is not None and output.dtype.kind == "f":
            return name, score
    return None


def _score(output: Array, labels: Array) -> Score | None:
    if labels.dtype.kind in "iu":
        axis = class_axis(output.shape, labels.shape)
        if axis is not None:
            return Accuracy(axis) if labels.ndim == 1 else TokenAccuracy(axis)
    same = len(output) == len(labels) and output.size == labels.size
    return RootMeanSquare() if same else None
