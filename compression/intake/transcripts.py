"""Transcriptions: texts -> sequences of symbols as connectionist temporal classification numbers them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError
from compression.inspection import Finding
from compression.intake import finish
from compression.intake.ragged import Ragged

BLANK = "<blank>"
"""The name of class 0."""
_SHOWN = 12


class Transcripts:
    """`classes` are the symbols in the model's order, with or without the blank before them; of a longer and
    a shorter one that fit, the longer is taken. Where there are none, every character that occurs is one, in
    the order of their code points.
    """

    def __init__(self, column: str, scratch: Path, classes: Sequence[str] = ()) -> None:
        """Errors: CompressionError `invalid_dataset` of a class that is named twice."""
        if len(set(classes)) != len(classes):
            raise CompressionError("invalid_dataset", "options.classes names a class twice")
        self.column, self.derived = column, not classes
        named = classes[1:] if classes and classes[0] == BLANK else classes
        self._codes = {symbol: code for code, symbol in enumerate(named, 1)}
        self._longest = max(map(len, self._codes), default=1)
        self._rows = Ragged(scratch)

    def append(self, texts: Sequence[str], first: int = 0) -> None:
        """Of rows from `first` on.

        Errors: CompressionError `invalid_dataset` with row and column, `limit_decoded_bytes`.
        """
        coded = [self._coded(text, first + row) for row, text in enumerate(texts)]
        finish.check_classes(len(self._codes))
        self._rows.append(np.array([code for own in coded for code in own], np.int64), map(len, coded))

    def _coded(self, text: str, row: int) -> list[int]:
        if not text:
            raise self._at(row, "the value is missing")
        if self.derived:
            return [self._codes.setdefault(symbol, len(self._codes) + 1) for symbol in text]
        found, start = [], 0
        while start < len(text):
            ends = range(min(start + self._longest, len(text)), start, -1)
            end = next((end for end in ends if text[start:end] in self._codes), None)
            if end is None:
                raise self._at(row, f"{text[start]!r} of {text[:40]!r} is none of options.classes")
            found.append(self._codes[text[start:end]])
            start = end
        return found

    def _at(self, row: int, why: str) -> CompressionError:
        return CompressionError("invalid_dataset", f"row {row + 1}, column {self.column[:80]!r}: {why}")

    def whole(self) -> tuple[Array, tuple[str, ...], Finding]:
        """Labels [rows, longest], the names of the classes, and what is to be told of both."""
        symbols = sorted(self._codes) if self.derived else list(self._codes)
        renumbered = None
        if self.derived:
            place = {symbol: code for code, symbol in enumerate(symbols, 1)}
            renumbered = np.array([0, *(place[symbol] for symbol in self._codes)], np.int64)
        return self._rows.padded(renumbered), (BLANK, *symbols), self._finding(symbols)

    def _finding(self, symbols: Sequence[str]) -> Finding:
        shown = " ".join(map(repr, symbols[:_SHOWN])) + (" …" if len(symbols) > _SHOWN else "")
        count, order = len(symbols), "by their code points" if self.derived else "as in options.classes"
        return Finding(
            code="transcriptions",
            severity="warning" if self.derived else "info",
            detail=f"labels are transcriptions of at most {self._rows.longest} out of {count} symbols, "
            f"numbered from 1 {order}: {shown}; 0 is the blank, a model that fits gives {count + 1} classes",
            way_out="name them in options.classes, in the order of the model's outputs after the blank",
        )
