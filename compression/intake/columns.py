"""What becomes of columns of a table, a few rows at a time: each sink writes its arrays to files, so that
memory does not grow with the rows.
"""

import os
from array import array as numbers_of
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from compression.dataset import Array
from compression.inspection import Finding
from compression.intake import cells, finish, images
from compression.intake.growing import Growing
from compression.preprocessing import DatasetOptions

_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)


@dataclass(frozen=True)
class Filled:
    arrays: dict[str, Array]
    kept: Array | None = None
    """Rows that go on, where not all do."""
    details: dict[str, Any] = field(default_factory=dict)
    """Fields of the inspection."""
    findings: tuple[Finding, ...] = ()


class Sink(Protocol):
    def add(self, piece: pa.RecordBatch, first: int) -> None:
        """Rows from `first` on.

        Errors: CompressionError `invalid_dataset` with row and column, `limit_decoded_bytes`.
        """

    def filled(self) -> Filled:
        """Once all rows were added."""


class Numbers:
    """One column of numbers, or of lists of one length."""

    def __init__(self, name: str, column: str, into: Path) -> None:
        self.name, self.column, self.into = name, column, Growing(into)

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        rows = cells.numbers(cells.named(piece, self.column), self.column, first)
        append(self.into, rows, self.column, first)

    def filled(self) -> Filled:
        return Filled({self.name: self.into.whole()})


def append(into: Growing, rows: Array, column: str, first: int) -> None:
    """Whole numbers become float64 where such follow; of text the types are found out as it is read.

    Errors: CompressionError `invalid_dataset`.
    """
    if into.n and rows.shape[1:] != into.shape:
        raise cells.at(
            first, column, f"it holds {list(rows.shape[1:])} values, the first row {list(into.shape)}"
        )
    if into.n and (into.dtype, rows.dtype) == (_INT64, _FLOAT64):
        into.widen(_FLOAT64)
    elif into.n and rows.dtype != into.dtype and (into.dtype, rows.dtype) != (_FLOAT64, _INT64):
        raise cells.at(first, column, f"the value is {rows.dtype}, those before are {into.dtype}")
    into.append(rows)


class Row:
    """Several columns of single numbers: the features of one float32 row."""

    def __init__(self, name: str, columns: Sequence[str], into: Path) -> None:
        self.name, self.columns, self.into = name, columns, Growing(into)

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        rows = np.empty((len(piece), len(self.columns)), np.float32)
        for at, column in enumerate(self.columns):
            values = cells.numbers(cells.named(piece, column), column, first)
            if values.ndim != 1:
                raise cells.at(first, column, "it holds a list; a row of features is made of single numbers")
            rows[:, at] = values
        self.into.append(rows)

    def filled(self) -> Filled:
        return Filled({self.name: self.into.whole()})


class Labels:
    """Class names become numbers in their order; numbers stay. `classes` are names known from elsewhere."""

    def __init__(self, column: str, into: Path, classes: Sequence[str] = ()) -> None:
        self.column, self.into, self.classes = column, Growing(into), tuple(classes)
        self.codes: dict[str, int] = {}

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        values = cells.named(piece, self.column)
        if self.codes or (not self.into.n and cells.is_text(values.type)):
            self._add_names(cells.texts(values, self.column, first), first)
            return
        labels = cells.numbers(values, self.column, first)
        if labels.dtype.kind in "iu" and labels.ndim == 1:
            self._check(labels, first)
        append(self.into, labels, self.column, first)

    def _add_names(self, names: Sequence[str], first: int) -> None:
        if "" in names:
            raise cells.at(first + names.index(""), self.column, "the value is missing")
        codes = [self.codes.setdefault(name, len(self.codes)) for name in names]
        finish.check_classes(len(self.codes))
        self.into.append(np.array(codes, np.int64))

    def _check(self, labels: Array, first: int) -> None:
        if labels.min() < 0:
            raise cells.at(first + int(np.argmin(labels)), self.column, "the label is below 0")
        if self.classes and labels.max() >= len(self.classes):
            why = f"the label is {labels.max()}, but there are {len(self.classes)} class names"
            raise cells.at(first + int(np.argmax(labels)), self.column, why)

    def filled(self) -> Filled:
        labels = self.into.whole()
        if not self.codes:
            return Filled({"label": labels}, details={"classes": self.classes})
        classes = finish.ordered(self.codes, self.classes)
        place = {name: at for at, name in enumerate(classes)}
        order = np.array([place[name] for name in self.codes], np.int64)
        return Filled({"label": order[labels]}, details={"classes": classes})


class Images:
    """Encoded images, put by until they are decoded together."""

    def __init__(self, name: str, column: str, options: DatasetOptions, scratch: Path) -> None:
        self.name, self.column, self.options, self.scratch = name, column, options, scratch
        self.ends = numbers_of("q", [0])

    def add(self, piece: pa.RecordBatch, first: int) -> None:  # noqa: ARG002  what is broken is told later
        with (self.scratch / "encoded").open("ab") as file:
            for cell in cells.encoded(cells.named(piece, self.column), self.column):
                file.write(cell)
                self.ends.append(self.ends[-1] + len(cell))

    def filled(self) -> Filled:
        with (self.scratch / "encoded").open("rb") as file:

            def read(row: int) -> bytes:
                return os.pread(file.fileno(), self.ends[row + 1] - self.ends[row], self.ends[row])

            names = [f"row {row + 1}" for row in range(len(self.ends) - 1)]
            decoded = images.decode_all(read, names, self.options, self.scratch / "images")
        return Filled({self.name: decoded.array}, decoded.rows, {"skipped": decoded.skipped})
