"""Histogram of a stream: bounded memory, exact extremes, a range that widens by doubling."""

import numpy as np
import numpy.typing as npt

BINS = 2048
NEGLIGIBLE = 1e-30
"""A range no wider than this counts as zero: its scale would not be a normal float32."""
Floats = npt.NDArray[np.float32]


class Histogram:
    """2048 equal bins over a range that is doubled (pairs of bins merged) whenever a value falls outside."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.low = self.high = 0.0
        self.minimum, self.maximum = np.inf, -np.inf
        self._zeros = 0
        """Values seen while all were zero and there was no range to count in."""

    def update(self, sample: Floats, minimum: float, maximum: float) -> None:
        """Count `sample`, drawn from values whose exact extremes are `minimum` and `maximum`."""
        self.minimum, self.maximum = min(self.minimum, minimum), max(self.maximum, maximum)
        self._widen()
        width = (self.high - self.low) / BINS
        if width == 0:
            self._zeros += sample.size
        else:
            index = ((sample - np.float32(self.low)) * np.float32(1 / width)).astype(np.int32)
            self.counts += np.bincount(np.clip(index, 0, BINS - 1, out=index), minlength=BINS)

    def _widen(self) -> None:
        if self.high == self.low:
            self._open()
        while self.low > self.minimum and self.high > self.low:
            self.low -= self.high - self.low
            self.counts = np.concatenate((np.zeros(BINS // 2, np.int64), _merged(self.counts)))
        while self.high < self.maximum and self.high > self.low:
            self.high += self.high - self.low
            self.counts = np.concatenate((_merged(self.counts), np.zeros(BINS // 2, np.int64)))

    def _open(self) -> None:
        """The first range with an extent."""
        low, high = min(self.minimum, 0.0), max(self.maximum, 0.0)
        if high - low > NEGLIGIBLE:
            self.low, self.high = low, high
            self.counts[min(int(-low / (high - low) * BINS), BINS - 1)] = self._zeros

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        width = (self.high - self.low) / BINS
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * width, np.float64)


def _merged(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(counts.reshape(-1, 2).sum(1), np.int64)
