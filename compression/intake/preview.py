"""A look at a normalised data set, bounded in size: first rows, thumbnails, how often each class, ranges."""

import base64
import io
from importlib.util import find_spec
from typing import Any

import numpy as np

from compression import doctor
from compression.dataset import Array, Dataset
from compression.dataset_preview import ColumnPreview, DatasetPreview, SplitPreview

_VALUES, _SIDE, _ROWS = 16, 64, 8


def preview(data: Dataset) -> DatasetPreview:
    """Of every split. Thumbnails where Pillow is installed."""
    counts = doctor.class_counts(data)
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
    low, high = np.inf, -np.inf
    for chunk in doctor.chunks(array):
        good = chunk[np.isfinite(chunk)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    first = [np.asarray(row) for row in array[:_ROWS]]
    return ColumnPreview(
        name=name,
        low=_number(low),
        high=_number(high),
        rows=tuple(tuple(_number(value) for value in row.flat[:_VALUES]) for row in first),
        thumbnails=tuple(_thumbnail(row) for row in first if _is_image(row)),
    )


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _is_image(row: Array) -> bool:
    return row.ndim == 3 and row.size > 0 and _channels(row) is not None and find_spec("PIL") is not None


def _channels(image: Array) -> int | None:
    """The axis of one or three."""
    return next((axis for axis in (0, 2) if image.shape[axis] in {1, 3}), None)


def _thumbnail(image: Array) -> str:
    """A data URL. Floats are spread over their own range. The pixels are thinned before anything is computed:
    an image may be large.
    """
    from PIL import Image  # noqa: PLC0415  of the extra `images`

    pixels = image.transpose(1, 2, 0) if _channels(image) == 0 else image
    step = max(1, -(-max(pixels.shape[:2]) // _SIDE))
    pixels = np.nan_to_num(pixels[::step, ::step].astype(np.float64), posinf=0, neginf=0)
    low, high = (0, 255) if image.dtype == np.uint8 else (pixels.min(), pixels.max())
    shown = ((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
