"""The last step of every way in: split, write, examine."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compression import doctor
from compression.dataset import Array, Dataset
from compression.doctor.labels import class_counts
from compression.doctor.values import largest_integers
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
    owned: Array | None = None,
    kept: Array | None = None,
) -> None:
    """Arrays of one length, unsplit; `owned` are the owner's splits of the rows (`splits.codes`), `kept` the
    rows that go on.

    Errors: CompressionError `invalid_dataset`.
    """
    if not set(arrays) - set(LABELS):
        raise CompressionError("invalid_dataset", "the data set has no input")
    chosen = np.arange(len(next(iter(arrays.values())))) if kept is None else kept
    rows = _rows(chosen, arrays.get("label"), options, owned)
    _write(arrays, into, {split: chosen[own] for split, own in rows.items()})


def write_grouped(
    arrays: Mapping[str, Array], into: Path, options: DatasetOptions, owned: Array | None, size: int
) -> None:
    """Labels and splits are those of groups of `size` rows, which stay together, in order."""
    labels = arrays.get("label")
    n = len(next(iter(arrays.values()))) // size if labels is None else len(labels)
    rows = _rows(np.arange(n), labels, options, owned)
    spread = {
        name: array.repeat(size, axis=0) if name == "label" else array for name, array in arrays.items()
    }
    grouped = {split: (own[:, None] * size + np.arange(size)).ravel() for split, own in rows.items()}
    _write(spread, into, grouped)


def _rows(
    chosen: Array, labels: Array | None, options: DatasetOptions, owned: Array | None
) -> dict[str, Array]:
    """Of each split, places in `chosen`."""
    if owned is not None:
        return splits.named(owned[chosen])
    fractions = options.splits if isinstance(options.splits, Fractions) else Fractions()
    return splits.stratified(len(chosen), None if labels is None else labels[chosen], fractions, options.seed)


def _write(arrays: Mapping[str, Array], into: Path, rows: Mapping[str, Array]) -> None:
    parts = {f"{split}/{name}": npz.Part(a, own) for split, own in rows.items() for name, a in arrays.items()}
    npz.write({name: parts[name] for name in sorted(parts)}, into)


def details(into: Path, options: DatasetOptions | None, classes: Sequence[str] = ()) -> dict[str, Any]:
    """What the written data set tells besides its arrays; `options` are None where none were followed."""
    data = Dataset.open(into)
    return {
        "preprocessing": options,
        "classes": tuple(classes),
        "class_counts": class_counts(data, len(classes)),
        "largest": largest_integers(data),
        "findings": doctor.findings(data, classes, prepared=options is not None),
    }


def encode(values: Sequence[str], given: Sequence[str] = ()) -> tuple[Array, tuple[str, ...]]:
    """Class names -> labels, by the order `given`, else by sorted name.

    Errors: CompressionError `invalid_dataset`.
    """
    classes = ordered(values, given)
    index = {name: at for at, name in enumerate(classes)}
    return np.array([index[value] for value in values], np.int64), classes


def ordered(names: Iterable[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """Errors: CompressionError `invalid_dataset` of a name that is not among those `given`."""
    found = set(names)
    check_classes(len(found))
    if not given:
        return tuple(sorted(found))
    if unknown := sorted(found - set(given)):
        raise CompressionError("invalid_dataset", f"the class {unknown[0][:80]!r} is none of options.classes")
    if len(set(given)) != len(given):
        raise CompressionError("invalid_dataset", "options.classes names a class twice")
    return tuple(given)


def check_classes(count: int) -> None:
    """Errors: CompressionError `invalid_dataset`."""
    if count > MAX_CLASSES:
        raise CompressionError("invalid_dataset", f"there are more than {MAX_CLASSES} classes")
