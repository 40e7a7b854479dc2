"""Transcription by connectionist temporal classification (Graves et al. 2006)."""

import numpy as np

from compression.dataset import Array
from compression.measure.paired import Replicates
from compression.measure.sums import Sums, wilson
from compression.measurement import Metric

BLANK = 0


def decoded(steps: Array) -> Array:
    """The best path read: repetitions merged, then blanks left out."""
    first = np.ones(len(steps), bool)
    first[1:] = steps[1:] != steps[:-1]
    return np.asarray(steps[first & (steps != BLANK)])


def edits(one: Array, other: Array) -> int:
    """Least number of insertions, deletions and substitutions (Levenshtein 1966)."""
    places = np.arange(len(other) + 1)
    row = places.copy()
    for count, symbol in enumerate(one, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (other != symbol))
        row = np.concatenate([[count], changed])
        row = np.minimum.accumulate(row - places) + places  # insertions, from left to right
    return int(row[-1])


def _rate(sums: Array) -> Array:
    """Of [..., 2]: edits, and symbols to be read."""
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


class Transcription:
    """Character error rate of the best path, and the share of samples read without an error.

    Class 0 is the blank; labels [N, L] are filled up with negatives or zeros, as in training.
    """

    def __init__(self, batch_first: bool) -> None:
        self.batch_first, self.sums, self.correct = batch_first, Sums(), 0

    def add(self, output: Array, labels: Array) -> None:
        """[N, T, C] or [T, N, C], and [N, L]."""
        paths = output.argmax(2)
        rows = []
        for path, label in zip(paths if self.batch_first else paths.T, labels, strict=True):
            wanted = label[label > BLANK]
            rows.append((edits(decoded(path), wanted), len(wanted)))
        self.correct += sum(not errors for errors, _ in rows)
        self.sums.add(np.array(rows))

    def metrics(self) -> tuple[Metric, ...]:
        n = self.sums.n
        value, interval = float(_rate(self.sums.total)), self.sums.interval(_rate, 0)
        rate = Metric(name="cer", value=value, ci95=interval, n=n, higher_is_better=False)
        share, sure = self.correct / n, wilson(self.correct, n)
        return rate, Metric(name="sequence_accuracy", value=share, ci95=sure, n=n)

    def evidence(self) -> Replicates:
        return Replicates(self.sums.without(_rate))
