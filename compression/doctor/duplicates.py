"""Rows of test that are in train too."""

import hashlib

import numpy as np

from compression.dataset import Array, Dataset, Split
from compression.inspection import Finding

_CHUNK = 4 << 20
_SHOWN = 5


def findings(data: Dataset) -> list[Finding]:
    train, test = data.split("train"), data.split("test")
    if train is None or test is None:
        return []
    both = np.flatnonzero(np.isin(_digests(test), _digests(train)))
    if not len(both):
        return []
    shown = ", ".join(str(row) for row in both[:_SHOWN])
    return [
        Finding(
            code="train_test_duplicates",
            severity="warning",
            detail=f"{len(both)} of {test.n} rows of test are in train too: rows {shown}",
            way_out="remove them from one of the splits: the measured metric is too good",
        )
    ]


def _digests(split: Split) -> Array:
    """64 bits of each row's inputs."""
    arrays = list(split.arrays.values())
    found: Array = np.empty(split.n, np.uint64)
    rows = max(1, _CHUNK * split.n // max(1, sum(array.nbytes for array in arrays)))
    for start in range(0, split.n, rows):
        parts = [_bytes(array[start : start + rows]) for array in arrays]
        for offset in range(len(parts[0])):
            digest = hashlib.blake2b(digest_size=8)
            for part in parts:
                digest.update(part[offset])
            found[start + offset] = int.from_bytes(digest.digest(), "little")
    return found


def _bytes(rows: Array) -> Array:
    whole = np.ascontiguousarray(rows)
    return np.asarray(whole).reshape(len(whole), -1).view(np.uint8)
