"""A look at a normalised data set, bounded in size: first rows, thumbnails, how often each class, ranges."""

import io
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from compression import doctor
from compression.dataset import Array, Dataset

_VALUES = 16
_SIDE = 64
MOST_ROWS = 50


class Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    low: float | None = Field(description="smallest finite value; null where there is none")
    high: float | None
    rows: tuple[tuple[float | None, ...], ...] = Field(
        description=f"of each row the first {_VALUES} values; null where not finite"
    )


class Preview(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    split: str
    columns: tuple[Column, ...]
    class_counts: tuple[int, ...]


def preview(data: Dataset, split: str, rows: int = 8) -> Preview:
    """Errors: KeyError for a split that is not there."""
    rows = min(rows, MOST_ROWS)
    prefix = f"{split}/"
    own = {name.removeprefix(prefix): array for name, array in data.arrays.items() if name.startswith(prefix)}
    if not own:
        raise KeyError(split)
    columns = tuple(_column(name, array, rows) for name, array in own.items())
    return Preview(split=split, columns=columns, class_counts=doctor.class_counts(data).get(split, ()))


def thumbnails(array: Array, rows: int = 8) -> list[bytes]:
    """PNGs of at most 64 pixels a side, spread over their own range; empty where it holds no images."""
    if array.ndim != 4:
        return []
    return [_png(np.asarray(image)) for image in array[: min(rows, MOST_ROWS)] if _axis(image) is not None]


def _column(name: str, array: Array, rows: int) -> Column:
    low, high = np.inf, -np.inf
    for chunk in doctor.chunks(array):
        good = chunk[np.isfinite(chunk)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    first = tuple(tuple(_number(value) for value in row.flat[:_VALUES]) for row in _rows(array, rows))
    return Column(name=name, low=_number(low), high=_number(high), rows=first)


def _rows(array: Array, rows: int) -> list[Array]:
    return [np.asarray(row) for row in array[:rows]]


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
    shown = ((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).save(buffer, "PNG")
    return buffer.getvalue()
