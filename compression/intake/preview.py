"""A look at a normalised data set, bounded in size and time: first rows, thumbnails, how often each class,
ranges. It needs NumPy alone.
"""

import base64
import struct
import zlib
from typing import Any

import numpy as np

from compression.dataset import Array, Dataset
from compression.dataset_preview import ColumnPreview, DatasetPreview, SplitPreview
from compression.doctor.labels import class_counts
from compression.doctor.values import chunks

_VALUES, _SIDE, _ROWS = 16, 64, 8
_LOOKED_AT = 256 << 20
"""Bytes of an array whose range is told."""


def preview(data: Dataset) -> DatasetPreview:
    """Of every split. Ranges are those of its first rows where an array is large."""
    counts = class_counts(data)
    columns: dict[str, list[ColumnPreview]] = {}
    for key, array in data.arrays.items():
        split, _, name = key.partition("/")
        columns.setdefault(split, []).append(_column(name, array))
    splits = (
        SplitPreview(split=split, columns=tuple(own), class_counts=counts.get(split, ()))
        for split, own in columns.items()
    )
    return DatasetPreview(splits=tuple(splits))


def _column(name: str, array: Array) -> ColumnPreview:
    most = max(1, _LOOKED_AT * len(array) // max(1, array.nbytes))
    low, high = np.inf, -np.inf
    for chunk in chunks(array[:most]):
        good = chunk[np.isfinite(chunk)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    first = [np.asarray(row) for row in array[:_ROWS]]
    return ColumnPreview(
        name=name,
        low=_number(low),
        high=_number(high),
        rows=tuple(tuple(_number(value) for value in row.flat[:_VALUES]) for row in first),
        thumbnails=tuple(_thumbnail(row) for row in first if row.ndim == 3 and _axis(row) is not None),
    )


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _axis(image: Array) -> int | None:
    """Where the one or three channels are."""
    return next((axis for axis in (0, 2) if image.shape[axis] in {1, 3}), None)


def _thumbnail(image: Array) -> str:
    """A data URL, spread over its own range. The pixels are thinned before anything is computed: an image may
    be large.
    """
    pixels = image.transpose(1, 2, 0) if _axis(image) == 0 else image
    step = max(1, -(-max(pixels.shape[:2]) // _SIDE))
    pixels = np.nan_to_num(pixels[::step, ::step].astype(np.float64), posinf=0, neginf=0)
    low, high = (0, 255) if image.dtype == np.uint8 else (pixels.min(), pixels.max())
    shown = ((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(_png(shown)).decode()}"


def _png(pixels: Array) -> bytes:
    """PNG (ISO/IEC 15948) of 8 bits a channel, each line without a filter."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)])
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes())) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
