"""A look at a normalised data set, bounded in size and time: first rows, thumbnails, how often each class,
ranges. It needs NumPy alone.
"""

import base64
import struct
import zlib
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from compression.dataset import Array, Dataset
from compression.doctor.labels import class_counts
from compression.doctor.values import chunks

_VALUES = 16
_SIDE = 64
_LOOKED_AT = 64 << 20
"""Bytes of an array whose range is told."""
MOST_ROWS = 50


class Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    dtype: str
    shape: tuple[int, ...] = Field(description="of one row")
    low: float | None = Field(description="smallest finite value; null where there is none")
    high: float | None
    looked_at: int = Field(description="of how many rows, from the first, low and high are told")
    rows: tuple[tuple[float | None, ...], ...] = Field(
        description=f"of each row the first {_VALUES} values; null where not finite"
    )
    thumbnails: tuple[str, ...] = Field(
        description=f"of images: a PNG of at most {_SIDE} pixels a side for each row, as base64, spread over "
        "its own range; empty for other arrays"
    )


class Preview(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    split: str
    n: int = Field(description="rows of the split")
    columns: tuple[Column, ...]
    class_counts: tuple[int, ...] = Field(description="by class number; empty where labels are no classes")


def preview(data: Dataset, split: str, rows: int = 8) -> Preview:
    """Errors: KeyError for a split that is not there."""
    rows = min(rows, MOST_ROWS)
    prefix = f"{split}/"
    own = {name.removeprefix(prefix): array for name, array in data.arrays.items() if name.startswith(prefix)}
    if not own:
        raise KeyError(split)
    return Preview(
        split=split,
        n=len(next(iter(own.values()))),
        columns=tuple(_column(name, array, rows) for name, array in own.items()),
        class_counts=class_counts(data).get(split, ()),
    )


def thumbnails(array: Array, rows: int = 8) -> list[bytes]:
    """PNGs; none where it holds no images."""
    if array.ndim != 4 or _axis(array[0]) is None:
        return []
    return [_png(np.asarray(image)) for image in array[: min(rows, MOST_ROWS)]]


def _column(name: str, array: Array, rows: int) -> Column:
    most = max(1, _LOOKED_AT * len(array) // max(1, array.nbytes))
    low, high = np.inf, -np.inf
    for chunk in chunks(array[:most]):
        good = chunk[np.isfinite(chunk)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    return Column(
        name=name,
        dtype=array.dtype.name,
        shape=array.shape[1:],
        low=_number(low),
        high=_number(high),
        looked_at=min(most, len(array)),
        rows=tuple(tuple(_number(value) for value in np.asarray(row).flat[:_VALUES]) for row in array[:rows]),
        thumbnails=tuple(base64.b64encode(png).decode() for png in thumbnails(array, rows)),
    )


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _axis(image: Array) -> int | None:
    """Where the one or three channels are."""
    return next((axis for axis in (0, 2) if image.shape[axis] in {1, 3}), None)


def _png(image: Array) -> bytes:
    """The pixels are thinned before anything is computed: an image may be large."""
    pixels = image.transpose(1, 2, 0) if _axis(image) == 0 else image
    step = max(1, -(-max(pixels.shape[:2]) // _SIDE))
    pixels = np.nan_to_num(pixels[::step, ::step].astype(np.float64), posinf=0, neginf=0)
    low, high = (0, 255) if image.dtype == np.uint8 else (pixels.min(), pixels.max())
    return _encoded(((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8))


def _encoded(pixels: Array) -> bytes:
    """PNG (ISO/IEC 15948) of 8 bits a channel, each line without a filter."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)])
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes())) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
