"""An array that is written to a file as its rows come, and mapped once they are all there."""

import math
from pathlib import Path

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError
from compression.validation.limits import MAX_DATASET_BYTES

_CHUNK = 4 << 20


def check_size(size: int) -> None:
    """Errors: CompressionError `limit_decoded_bytes`."""
    if size > MAX_DATASET_BYTES:
        raise CompressionError("limit_decoded_bytes", f"decoded it takes more than {MAX_DATASET_BYTES} bytes")


class Growing:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.n = 0
        self.shape: tuple[int, ...] = ()
        """Of one row; with `dtype` that of the first rows."""
        self.dtype: np.dtype[np.generic] = np.dtype(np.int64)

    @property
    def nbytes(self) -> int:
        return self.n * math.prod(self.shape) * self.dtype.itemsize

    def append(self, rows: Array) -> None:
        """Rows of another shape than the first are the caller's to refuse.

        Errors: CompressionError `limit_decoded_bytes`.
        """
        if not self.n:
            self.shape, self.dtype = rows.shape[1:], rows.dtype
        check_size(self.nbytes + rows.nbytes)
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.n += len(rows)

    def widen(self, dtype: np.dtype[np.generic]) -> None:
        """To a type of the same width, in place."""
        array = np.memmap(self.path, self.dtype, "r+")
        for start in range(0, array.size, _CHUNK):
            part = array[start : start + _CHUNK]
            part.view(dtype)[:] = part.astype(dtype)
        array.flush()
        self.dtype = dtype

    def whole(self) -> Array:
        array: Array = np.memmap(self.path, self.dtype, "r", 0, (self.n, *self.shape))
        return array
