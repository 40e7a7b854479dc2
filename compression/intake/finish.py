"""The last step of every way in: split, write, examine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compression import doctor
from compression.dataset import Array, Dataset
from compression.errors import CompressionError
from compression.fit import LABELS
from compression.intake import splits
from compression.preprocessing import DatasetOptions, Fractions
from compression.validation import npz
from compression.validation.limits import MAX_CLASSES


def write(
    arrays: Mapping[str, Array],
    into: Path,
    options: DatasetOptions,
    words: Sequence[object] | None = None,
    kept: Array | None = None,
) -> None:
    """Arrays of one length, unsplit; `words` are the owner's splits of the rows, `kept` those that go on.

    Errors: CompressionError `invalid_dataset`.
    """
    if not set(arrays) - set(LABELS):
        raise CompressionError("invalid_dataset", "the data set has no input")
    chosen = np.arange(len(next(iter(arrays.values())))) if kept is None else kept
    if words is None:
        fractions = options.splits if isinstance(options.splits, Fractions) else Fractions()
        labels = arrays["label"][chosen] if "label" in arrays else None
        rows = splits.stratified(len(chosen), labels, fractions, options.seed)
    else:
        rows = splits.named(
            [words[int(row)] for row in chosen],
            options.splits if isinstance(options.splits, str) else "split",
        )
    parts = {
        f"{split}/{name}": npz.Part(a, chosen[own])
        for split, own in rows.items()
        for name, a in arrays.items()
    }
    npz.write({name: parts[name] for name in sorted(parts)}, into)


def details(into: Path, options: DatasetOptions, classes: Sequence[str] = ()) -> dict[str, Any]:
    """What the written data set tells besides its arrays."""
    data = Dataset.open(into)
    return {
        "preprocessing": options,
        "classes": tuple(classes),
        "class_counts": doctor.class_counts(data, len(classes)),
        "findings": doctor.findings(data, classes),
    }


def encode(values: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Class names -> labels, by sorted name.

    Errors: CompressionError `invalid_dataset`.
    """
    classes = tuple(sorted(set(values)))
    if len(classes) > MAX_CLASSES:
        raise CompressionError("invalid_dataset", f"there are more than {MAX_CLASSES} classes")
    index = {name: at for at, name in enumerate(classes)}
    return np.array([index[value] for value in values], np.int64), classes
