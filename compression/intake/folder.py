"""An image folder: class directories, or a labels file beside the images."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError, FieldError
from compression.inspection import Finding
from compression.intake import finish, images, members, processor, splits
from compression.intake.transcripts import Transcripts
from compression.preprocessing import NO_TRANSCRIPTIONS, DatasetOptions, invalid_options
from compression.validation.limits import MAX_COLUMNS

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image")
_LABEL_FILES = ("labels.csv", "labels.jsonl", "metadata.csv", "metadata.jsonl")
"""The last two as `datasets` has them; they need not hold labels."""


class Listing(NamedTuple):
    """Of each image: its member, class and split."""

    files: list[str]
    labels: list[str]
    words: list[str]
    column: str | None = None
    """Of a file that holds the labels: there they may be numbers."""


def load(path: Path, into: Path, scratch: Path, options: DatasetOptions) -> dict[str, Any]:
    """Errors: CompressionError `invalid_dataset` and what `members` and `images` raise."""
    with members.opened(path, scratch) as archive:
        options, findings = processor.followed(archive, options)
        listing = _listing(archive, options)
        files = listing.files
        decoded = images.decode_all(lambda row: archive.read(files[row]), files, options, scratch / "images")
    labels, classes, told = _labels(listing, options, scratch)
    arrays = {next(iter(options.inputs), "image"): decoded.array}
    if labels is not None:
        arrays["label"] = labels
    column = options.splits if isinstance(options.splits, str) else "split"
    owned = splits.codes(listing.words, column) if listing.words else None
    finish.write(arrays, into, options, owned, decoded.rows)
    details = finish.details(into, options, classes)
    return details | {"skipped": decoded.skipped, "findings": (*findings, *told, *details["findings"])}


def _labels(
    listing: Listing, options: DatasetOptions, scratch: Path
) -> tuple[Array | None, tuple[str, ...], tuple[Finding, ...]]:
    """Labels, the names of the classes, and what is to be told of them."""
    if not options.transcriptions:
        return *_numbered(listing, options.classes), ()
    if not listing.labels:
        raise invalid_options([FieldError("/labels", NO_TRANSCRIPTIONS)])
    texts = Transcripts(listing.column or "label", scratch, options.classes)
    texts.append(listing.labels)
    labels, classes, finding = texts.whole()
    return labels, classes, (finding,)


def _numbered(listing: Listing, given: Sequence[str]) -> tuple[Array | None, tuple[str, ...]]:
    """Labels and class names. Numbers in a file of labels are what they are: class numbers, or values."""
    if not listing.labels:
        return None, ()
    if listing.column is not None:
        for kind in (np.int64, np.float64):
            try:
                labels: Array = np.array(listing.labels, dtype=str).astype(kind)
            except (ValueError, OverflowError):
                continue
            if kind is np.int64 and labels.min() < 0:
                raise _at(int(np.argmin(labels)) + 1, listing.column, "the label is below 0")
            return labels, tuple(given)
    return finish.encode(listing.labels, given)


def _listing(archive: members.Members, options: DatasetOptions) -> Listing:
    files = sorted(name for name in archive.sizes if name.lower().endswith(SUFFIXES))
    if not files:
        raise CompressionError("invalid_dataset", "the archive holds no image")
    for name in archive.sizes:
        if name.rpartition("/")[2] in _LABEL_FILES:
            return _from_file(name, archive, options)
    return _from_folders(files)


def _from_folders(files: Sequence[str]) -> Listing:
    """train/cat/1.png, cat/1.png or 1.png, with or without one directory above all."""
    parts = [tuple(name.split("/")[:-1]) for name in files]
    tops = {part[:1] for part in parts}
    if len(tops) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[1:] for part in parts]
    words = [splits.name_of(part[0]) if part else None for part in parts]
    owned = [word for word in words if word]
    if len(owned) == len(parts):
        parts = [part[1:] for part in parts]
    labels = ["/".join(part) for part in parts]
    labelled = all(labels)
    if not labelled and any(labels):
        raise CompressionError("invalid_dataset", "some images lie in a class directory and some do not")
    return Listing(list(files), labels if labelled else [], owned if len(owned) == len(files) else [])


def _from_file(name: str, archive: members.Members, options: DatasetOptions) -> Listing:
    folder = PurePosixPath(name).parent
    listing = Listing([], [], [], options.labels or "label")
    label, split = options.labels or "label", options.splits if isinstance(options.splits, str) else None
    for row, record in enumerate(_records(name, archive.needed(name)), 1):
        column = next((known for known in _FILE_COLUMNS if known in record), "file")
        listing.files.append(str(folder / _cell(record, column, row)))
        if options.labels or label in record or not name.rpartition("/")[2].startswith("metadata"):
            listing.labels.append(_cell(record, label, row))
        if split:
            listing.words.append(_cell(record, split, row))
        if listing.files[-1] not in archive.sizes:
            raise _at(row, column, f"the archive holds no {listing.files[-1][:80]!r}")
    if not listing.files:
        raise CompressionError("invalid_dataset", f"{name[:80]!r} names no image")
    if len(listing.labels) not in {0, len(listing.files)}:
        raise CompressionError(
            "invalid_dataset", f"{name[:80]!r} gives labels to some images and not to others"
        )
    return listing


def _records(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
        if not name.endswith(".csv"):
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
            return
        header = text[: text.find("\n") + 1] or text
        if max(header.count(mark) for mark in ",;\t") >= MAX_COLUMNS:
            raise CompressionError("invalid_dataset", f"it has more than {MAX_COLUMNS} columns")
        yield from csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    except (ValueError, csv.Error, RecursionError) as error:
        raise CompressionError("invalid_dataset", f"{name[:80]!r} cannot be read: {error}"[:300]) from None


def _cell(record: dict[str, Any], column: str, row: int) -> str:
    value = record.get(column) if isinstance(record, dict) else None
    if not isinstance(value, str | int | float) or value == "":
        raise _at(row, column, "the value is missing")
    return str(value)


def _at(row: int, column: str, why: str) -> CompressionError:
    return CompressionError("invalid_dataset", f"row {row}, column {column!r}: {why}")
