"""Rows of each split: as the owner says, or by fractions with each class in its share."""

from collections.abc import Mapping, Sequence

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError
from compression.preprocessing import Fractions
from compression.validation.npz import CALIBRATION, SPLITS

_NAMES = {"validation": "calibration", "val": "calibration", "valid": "calibration", "dev": "calibration"} | {
    s: s for s in SPLITS
}


def name_of(word: str) -> str | None:
    """The split that a word stands for; `validation` calibrates."""
    return _NAMES.get(word.lower())


def codes(words: Sequence[object], column: str, first: int = 0) -> Array:
    """Of rows from `first` on: the place of each one's split in SPLITS.

    Errors: CompressionError `invalid_dataset` with row and column.
    """
    found = [name_of(str(word)) for word in words]
    if None in found:
        row = found.index(None)
        why = f"{str(words[row])[:40]!r} is none of {', '.join(SPLITS)}"
        raise CompressionError("invalid_dataset", f"row {first + row + 1}, column {column!r}: {why}")
    return np.array([SPLITS.index(split) for split in found if split], np.int8)


def named(owned: Array) -> dict[str, Array]:
    """Rows of each split, by the codes of all."""
    rows = {split: np.flatnonzero(owned == at) for at, split in enumerate(SPLITS)}
    return _calibrated({split: found for split, found in rows.items() if len(found)})


def _calibrated(rows: Mapping[str, Array]) -> dict[str, Array]:
    """Calibration rows are taken from train where the owner names none."""
    found = dict(rows)
    if "calibration" not in found and "train" in found:
        order = np.random.default_rng(0).permutation(len(found["train"]))[:CALIBRATION]
        found["calibration"] = found["train"][np.sort(order)]
    return found


def stratified(n: int, labels: Array | None, fractions: Fractions, seed: int) -> dict[str, Array]:
    """Without labels, or with labels that are no classes, the whole is one stratum. Rows are in order.

    No stratum's rows are lost: what rounding leaves goes on to the next split.
    """
    shares = [getattr(fractions, split) for split in SPLITS]
    place = np.empty(n)
    random = np.random.default_rng(seed)
    for stratum in _strata(n, labels):
        place[random.permutation(stratum)] = (np.arange(len(stratum)) + random.random()) / len(stratum)
    bounds = np.cumsum(shares)[:-1]
    split_of = np.searchsorted(bounds, place % 1, side="right")
    cut = {split: np.flatnonzero(split_of == at) for at, split in enumerate(SPLITS)}
    return {split: rows for split, rows in cut.items() if len(rows)}


def _strata(n: int, labels: Array | None) -> list[Array]:
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "biu":
        return [np.arange(n)]
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
