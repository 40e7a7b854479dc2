"""Labels that are sequences: of one length, as of positions, or of many, as transcriptions are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compression.intake import cells
from compression.intake.columns import Filled
from compression.intake.ragged import Ragged
from compression.intake.transcripts import Transcripts


def is_sequence(column: pa.Array) -> bool:
    """Of whole numbers; others are as long as each other."""
    return cells.is_list(column.type) and bool(pa.types.is_integer(column.type.value_type))


class Sequences:
    def __init__(self, column: str, scratch: Path) -> None:
        self.column, self.rows = column, Ragged(scratch)

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        values = cells.plain(cells.named(piece, self.column), self.column, first)
        if not is_sequence(values):
            raise cells.at(first, self.column, "the label is no list of whole numbers, as those before are")
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        flat = values.flatten()
        if flat.null_count:
            place = pc.index(flat.is_null(), value=True).as_py()
            row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
            raise cells.at(first + row, self.column, "a value is missing")
        self.rows.append(flat.to_numpy(zero_copy_only=False), map(int, lengths))

    def filled(self) -> Filled:
        return Filled({"label": self.rows.padded()})


class Transcriptions:
    """A column of texts."""

    def __init__(self, column: str, scratch: Path, classes: Sequence[str]) -> None:
        self.column, self.texts = column, Transcripts(column, scratch, classes)

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        self.texts.append(cells.texts(cells.named(piece, self.column), self.column, first), first)

    def filled(self) -> Filled:
        labels, classes, finding = self.texts.whole()
        return Filled({"label": labels}, details={"classes": classes}, findings=(finding,))
