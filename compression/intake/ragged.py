"""Sequences of numbers of many lengths, written to a file as they come; an array of one width in the end."""

from array import array as numbers_of
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compression.dataset import Array
from compression.intake.growing import Growing, check_size

FILL = -1
"""What fills up a sequence shorter than the longest: negative labels count for nothing."""
_CHUNK = 4096


class Ragged:
    def __init__(self, scratch: Path) -> None:
        self.into = scratch / "labels"
        self._flat = Growing(scratch / "sequences")
        self._lengths = numbers_of("q")

    @property
    def longest(self) -> int:
        return max(self._lengths, default=0)

    def append(self, flat: Array, lengths: Iterable[int]) -> None:
        """Sequences one after another. Errors: CompressionError `limit_decoded_bytes`."""
        self._lengths.extend(lengths)
        if len(flat):
            self._flat.append(flat.astype(np.int64))

    def padded(self, renumbered: Array | None = None) -> Array:
        """int64 [sequences, longest, at least 1]; a number n becomes `renumbered[n]`.

        Errors: CompressionError `limit_decoded_bytes`.
        """
        lengths = np.frombuffer(self._lengths, np.int64)
        width = max(1, self.longest)
        check_size(len(lengths) * width * 8)
        rows: Array = np.memmap(self.into, np.int64, "w+", 0, (len(lengths), width))
        flat = self._flat.whole() if self._flat.n else np.empty(0, np.int64)
        start = 0
        for row in range(0, len(lengths), _CHUNK):
            own = lengths[row : row + _CHUNK]
            values = flat[start : start + own.sum()]
            part = np.full((len(own), width), FILL, np.int64)
            part[np.arange(width) < own[:, None]] = values if renumbered is None else renumbered[values]
            rows[row : row + _CHUNK] = part
            start += own.sum()
        return rows
