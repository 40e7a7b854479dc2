"""Labels that are sequences: of one length, as of positions, or of many, as transcriptions are."""

from array import array as numbers_of
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compression.dataset import Array
from compression.intake import cells
from compression.intake.columns import Filled
from compression.intake.growing import Growing, check_size

FILL = -1
"""What fills up a sequence shorter than the longest: negative labels count for nothing."""
_CHUNK = 4096


def is_sequence(column: pa.Array) -> bool:
    """Of whole numbers; others are as long as each other."""
    return cells.is_list(column.type) and bool(pa.types.is_integer(column.type.value_type))


class Sequences:
    def __init__(self, column: str, scratch: Path) -> None:
        self.column, self.scratch = column, scratch
        self.flat = Growing(scratch / "sequences")
        self.lengths = numbers_of("q")

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
        self.lengths.extend(int(length) for length in lengths)
        if len(flat):
            self.flat.append(flat.to_numpy(zero_copy_only=False).astype(np.int64))

    def filled(self) -> Filled:
        """[rows, longest]."""
        lengths = np.frombuffer(self.lengths, np.int64)
        width = max(1, int(lengths.max()))
        check_size(len(lengths) * width * 8)
        labels: Array = np.memmap(self.scratch / "labels", np.int64, "w+", 0, (len(lengths), width))
        flat = self.flat.whole() if self.flat.n else np.empty(0, np.int64)
        start = 0
        for row in range(0, len(lengths), _CHUNK):
            own = lengths[row : row + _CHUNK]
            part = np.full((len(own), width), FILL, np.int64)
            part[np.arange(width) < own[:, None]] = flat[start : start + own.sum()]
            labels[row : row + _CHUNK] = part
            start += own.sum()
        return Filled({"label": labels})
