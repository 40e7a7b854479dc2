"""Arrays that come as such (.npz, .npy): named, chosen, prepared and split as their owner says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compression.dataset import Array
from compression.errors import CompressionError, FieldError
from compression.fit import LABELS
from compression.intake import finish, prepared
from compression.preprocessing import DatasetOptions, invalid_options
from compression.validation import npz

_ELSEWHERE = {
    "text": "arrays hold numbers, no text",
    "transcriptions": "arrays hold numbers, no text: those of labels count from 1, -1 fills up shorter rows",
    "max_broken": "arrays hold no image files that could be broken",
}
_BY_FRACTIONS = ("splits", "seed")

Named = Mapping[str, Mapping[str, Array]]
"""By split, which is empty where the owner names none, and by name."""


def load(arrays: Mapping[str, Array], into: Path, scratch: Path, options: DatasetOptions) -> dict[str, Any]:
    """Arrays by name of the member. Without options they stay as they are.

    Errors: CompressionError `invalid_options` of what does not apply to such arrays, `invalid_dataset`,
    `image_size`, `limit_decoded_bytes`.
    """
    if not options.model_fields_set:
        npz.write(npz.split(arrays), into)
        return finish.details(into, None)
    given = _by_split(arrays)
    if errors := list(_errors(given, options)):
        raise invalid_options(errors)
    chosen = {split: _chosen(own, options) for split, own in given.items()}
    image = prepared.chosen(chosen, options.image) if "image" in options.model_fields_set else None
    if image:
        chosen = prepared.prepare(chosen, image, scratch)
    done = options.model_copy(update={"image": image.options if image else prepared.UNTOUCHED})
    _check_classes(chosen, options.classes)
    _write(chosen, into, options)
    return finish.details(into, done, options.classes)


def _by_split(arrays: Mapping[str, Array]) -> Named:
    """Errors: CompressionError `invalid_dataset` where only some names are in a split."""
    found: dict[str, dict[str, Array]] = {}
    for name, array in npz.checked_names(arrays).items():
        split, _, own = name.rpartition("/")
        found.setdefault(split, {})[own] = array
    return found


def _errors(given: Named, options: DatasetOptions) -> Iterator[FieldError]:
    said = options.model_fields_set
    yield from (FieldError(f"/{field}", why) for field, why in _ELSEWHERE.items() if field in said)
    if set(given) != {""}:
        why = "the arrays are in splits already: leave it out, or name them without (image, not test/image)"
        yield from (FieldError(f"/{field}", why) for field in _BY_FRACTIONS if field in said)
    elif isinstance(options.splits, str):
        yield FieldError("/splits", "an array cannot tell splits: give fractions, or name arrays test/image")
    yield from _name_errors(given, options)


def _name_errors(given: Named, options: DatasetOptions) -> Iterator[FieldError]:
    for name, array in options.inputs.items():
        if not isinstance(array, str):
            yield FieldError(f"/inputs/{name}", "an input is one array here: join them before the upload")
        elif name in LABELS:
            yield FieldError(f"/inputs/{name}", "arrays of this name are labels")
        elif lacking := next((split for split, own in given.items() if array not in own), None):
            yield FieldError(f"/inputs/{name}", f"split {lacking!r} has no array {array[:80]!r}")
        elif "" in given and array not in given[""]:
            yield FieldError(f"/inputs/{name}", _unknown(array, given))
    if options.labels and not any(options.labels in own for own in given.values()):
        yield FieldError("/labels", _unknown(options.labels, given))
    labelled = any({*LABELS, options.labels} & set(own) for own in given.values())
    if options.classes and not labelled:
        yield FieldError("/classes", "there are no labels that they could name")


def _unknown(name: str, given: Named) -> str:
    known = dict.fromkeys(array for own in given.values() for array in own)
    shown = ", ".join(repr(array[:40]) for array in list(known)[:8])
    return f"there is no array {name[:80]!r}; there are {shown}"


def _chosen(own: Mapping[str, Array], options: DatasetOptions) -> dict[str, Array]:
    """Labels are called `label`; once their owner says which they are, another array of that name is none."""
    labels = options.labels or next((name for name in LABELS if name in own), None)
    inputs = {name: own[str(array)] for name, array in options.inputs.items()}
    if not options.inputs:
        inputs = {name: array for name, array in own.items() if name not in {labels, *LABELS}}
    return inputs | ({"label": own[labels]} if labels is not None and labels in own else {})


def _write(chosen: Named, into: Path, options: DatasetOptions) -> None:
    if "" in chosen and options.model_fields_set.intersection(_BY_FRACTIONS):
        npz.check_length(chosen[""], "the data set")
        finish.write(chosen[""], into, options)
        return
    named = {f"{split}/{name}".lstrip("/"): a for split, own in chosen.items() for name, a in own.items()}
    npz.write(npz.split(named), into)


def _check_classes(chosen: Named, classes: tuple[str, ...]) -> None:
    if len(set(classes)) != len(classes):
        raise invalid_options([FieldError("/classes", "a class is named twice")])
    for split, own in chosen.items():
        labels = own.get("label")
        if not classes or labels is None or labels.ndim != 1:
            continue
        _check_labels(labels, len(classes), f"{split}/label".lstrip("/"))


def _check_labels(labels: Array, classes: int, name: str) -> None:
    odd = (labels < 0) | (labels >= classes)
    if odd.any():
        row = int(odd.argmax())
        why = (
            f"row {row + 1}, column {name!r}: the label is {labels[row]}, but there are {classes} class names"
        )
        raise CompressionError("invalid_dataset", why)


def one(array: Array, options: DatasetOptions) -> Mapping[str, Array]:
    """A single array: that of the first input, whatever its owner calls it."""
    column = next(iter(options.inputs.values()), "input")
    return {column if isinstance(column, str) else "input": array}
