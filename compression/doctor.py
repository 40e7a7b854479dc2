"""The data doctor: what in a normalised data set will disappoint its owner, told before hours are spent.
Every array is read once, in pieces.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compression.dataset import Array, Dataset, Split
from compression.inspection import Finding

FEW_CALIBRATION = 100
_CHUNK = 4 << 20
_MOST_CLASSES = 100_000
_SHOWN = 5


def findings(data: Dataset, classes: Sequence[str] = ()) -> tuple[Finding, ...]:
    found = [*_calibration(data), *_missing(data, classes), *_duplicates(data)]
    for member, array in data.arrays.items():
        if array.dtype.kind == "f":
            found += _values(member, array)
    return tuple(found)


def class_counts(data: Dataset, classes: int = 0) -> dict[str, tuple[int, ...]]:
    """Samples of each class, by split; empty where labels are no class numbers."""
    labels = {name: split.labels for name, split in data.splits.items() if split.labels is not None}
    counts: dict[str, tuple[int, ...]] = {}
    most = max((_largest(array) for array in labels.values()), default=-1)
    if not 0 <= most < _MOST_CLASSES or min(_smallest(array) for array in labels.values()) < 0:
        return {}
    for name, array in labels.items():
        counted = np.bincount(np.asarray(array).astype(np.int64), minlength=max(classes, most + 1))
        counts[name] = tuple(counted.tolist())
    return counts


def _largest(labels: Array) -> int:
    return int(labels.max()) if labels.ndim == 1 and labels.dtype.kind in "biu" else _MOST_CLASSES


def _smallest(labels: Array) -> int:
    return int(labels.min())


def chunks(array: Array) -> Iterator[Array]:
    rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows])


def _calibration(data: Dataset) -> list[Finding]:
    split = data.split("calibration")
    n = split.n if split else 0
    if n >= FEW_CALIBRATION:
        return []
    return [
        Finding(
            code="few_calibration_rows",
            severity="warning",
            detail=f"{n} rows calibrate; ranges from fewer than {FEW_CALIBRATION} are unsteady",
            way_out="give the split calibration a larger share, or send more rows",
        )
    ]


def _missing(data: Dataset, classes: Sequence[str]) -> list[Finding]:
    counts = class_counts(data, len(classes))
    present = np.sum([np.asarray(found) for found in counts.values()], axis=0) > 0 if counts else []
    found = []
    for split, own in counts.items():
        absent = [at for at, seen in enumerate(present) if seen and not own[at]]
        if absent:
            shown = ", ".join(classes[at] if at < len(classes) else str(at) for at in absent[:_SHOWN])
            found.append(
                Finding(
                    code="classes_missing",
                    severity="warning",
                    detail=f"split {split!r} has no sample of {len(absent)} classes: {shown}"[:400],
                    way_out="let the split be made by fractions, which gives each class its share",
                )
            )
    return found


def _digests(split: Split) -> Mapping[bytes, int]:
    """Of each row's inputs -> the row."""
    found: dict[bytes, int] = {}
    arrays = list(split.arrays.values())
    for row in range(split.n):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(np.ascontiguousarray(array[row]).tobytes())
        found.setdefault(digest.digest(), row)
    return found


def _duplicates(data: Dataset) -> list[Finding]:
    train, test = data.split("train"), data.split("test")
    if train is None or test is None:
        return []
    seen, asked = _digests(train), _digests(test)
    both = sorted(asked[digest] for digest in seen.keys() & asked.keys())
    if not both:
        return []
    shown = ", ".join(str(row) for row in both[:_SHOWN])
    return [
        Finding(
            code="train_test_duplicates",
            severity="warning",
            detail=f"{len(both)} different rows of test are in train too: rows {shown}",
            way_out="remove them from one of the splits: the measured metric is too good",
        )
    ]


def _values(member: str, array: Array) -> list[Finding]:
    finite, low, high = True, np.inf, -np.inf
    for chunk in chunks(array):
        good = np.isfinite(chunk)
        finite = finite and bool(good.all())
        low = min(low, float(chunk.min(where=good, initial=np.inf)))
        high = max(high, float(chunk.max(where=good, initial=-np.inf)))
    found = []
    if not finite:
        found.append(
            Finding(
                code="not_finite",
                severity="error",
                detail=f"{member} holds NaN or infinite values",
                way_out="replace or remove these rows",
            )
        )
    if low == high and array.size > 1:
        found.append(
            Finding(
                code="constant",
                severity="warning",
                detail=f"every value of {member} is {low:g}",
                way_out="check how the data set was written",
            )
        )
    if low >= 0 and 200 < high <= 255 and array.ndim >= 3:
        found.append(
            Finding(
                code="unscaled",
                severity="warning",
                detail=f"{member} holds floats of {low:g} to {high:g}, as pixels not yet scaled",
                way_out="scale as in training, or keep pixels as uint8 if the model scales them",
            )
        )
    return found
