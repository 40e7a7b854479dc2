"""Labels: how often each class occurs, and what is odd about them."""

from collections.abc import Mapping, Sequence

import numpy as np

from compression.dataset import Array, Dataset
from compression.inspection import Finding

_MOST_CLASSES = 100_000
_SHOWN = 5

Counts = Mapping[str, tuple[int, ...]]


def class_counts(data: Dataset, classes: int = 0) -> dict[str, tuple[int, ...]]:
    """Samples of each class, by split; empty where labels are no class numbers."""
    labels = {name: split.labels for name, split in data.splits.items() if split.labels is not None}
    counts: dict[str, tuple[int, ...]] = {}
    most = max((_largest(array) for array in labels.values()), default=-1)
    if not 0 <= most < _MOST_CLASSES or min(int(array.min()) for array in labels.values()) < 0:
        return {}
    for name, array in labels.items():
        counted = np.bincount(np.asarray(array).astype(np.int64), minlength=max(classes, most + 1))
        counts[name] = tuple(counted.tolist())
    return counts


def _largest(labels: Array) -> int:
    return int(labels.max()) if labels.ndim == 1 and labels.dtype.kind in "biu" else _MOST_CLASSES


def findings(data: Dataset, classes: Sequence[str]) -> list[Finding]:
    counts = class_counts(data, len(classes))
    if not counts:
        return []
    present = np.sum([np.asarray(found) for found in counts.values()], axis=0) > 0
    return [*_missing(counts, present, classes), *_from_one(present, classes)]


def _missing(counts: Counts, present: Array, classes: Sequence[str]) -> list[Finding]:
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


def _from_one(present: Array, classes: Sequence[str]) -> list[Finding]:
    if classes or len(present) < 3 or present[0] or not present[1:].all():
        return []
    return [
        Finding(
            code="labels_from_one",
            severity="warning",
            detail=f"the classes are numbered from 1 to {len(present) - 1}; a model with as many outputs "
            "numbers them from 0",
            way_out="subtract 1 from each label, unless output 0 of the model stands for something else",
        )
    ]
