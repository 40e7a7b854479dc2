"""Histogram of a stream: bounded memory, exact extremes, a range that widens by doubling."""

import numpy as np
import numpy.typing as npt

BINS = 2048
Floats = npt.NDArray[np.float32]


class Histogram:
    """2048 equal bins over a range that is doubled (pairs of bins merged) whenever a value falls outside."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.low = self.high = 0.0
        self.minimum, self.maximum = np.inf, -np.inf

    def update(self, sample: Floats, minimum: float, maximum: float) -> None:
        """Count `sample`, drawn from values whose exact extremes are `minimum` and `maximum`."""
        self.minimum, self.maximum = min(self.minimum, minimum), max(self.maximum, maximum)
        self._widen()
        width = (self.high - self.low) / BINS
        if width > 0:
            index = ((sample - np.float32(self.low)) * np.float32(1 / width)).astype(np.int32)
            self.counts += np.bincount(np.clip(index, 0, BINS - 1, out=index), minlength=BINS)

    def _widen(self) -> None:
        if self.high == self.low:
            self.low, self.high = min(self.minimum, 0.0), max(self.maximum, 0.0)
        while self.minimum < self.low:
            self.low -= self.high - self.low
            self.counts = np.concatenate((np.zeros(BINS // 2, np.int64), _merged(self.counts)))
        while self.maximum > self.high:
            self.high += self.high - self.low
            self.counts = np.concatenate((_merged(self.counts), np.zeros(BINS // 2, np.int64)))

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        width = (self.high - self.low) / BINS
        return self.low + (np.arange(BINS) + 0.5) * width


def _merged(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return counts.reshape(-1, 2).sum(1)
