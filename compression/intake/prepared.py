"""Images that are arrays already: only what their owner says is done to them, as to images of an archive."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from compression import packages
from compression.dataset import Array
from compression.doctor.values import chunks
from compression.errors import FieldError
from compression.intake import pixels
from compression.intake.growing import Growing
from compression.preprocessing import ImageOptions, invalid_options

UNTOUCHED = ImageOptions(scale=1.0)
_SPATIAL = ("resize", "crop", "colour", "layout")
_CHANNELS = (1, 3)
Axis = Literal["first", "last", "none"]


@dataclass(frozen=True)
class Prepared:
    """`options` are those that are followed: of floats, pixels are not scaled unless that is said."""

    name: str
    options: ImageOptions
    channels: Axis | None
    """Where they are in a row; None: rows are no images, and numbers alone can be changed."""
    layout_said: bool


def chosen(arrays: Mapping[str, Mapping[str, Array]], options: ImageOptions) -> Prepared:
    """The one input that `image` can be about.

    Errors: CompressionError `invalid_options`.
    """
    inputs = {name: a for own in arrays.values() for name, a in own.items() if name != "label"}
    known = [name for name, array in inputs.items() if array.ndim in {3, 4}]
    known = known or [name for name, array in inputs.items() if array.ndim > 1]
    if len(known) != 1:
        found = " and ".join(repr(name[:40]) for name in known[:8]) or "no array"
        raise invalid_options([FieldError("/image", f"it is about one input of images; {found} could be it")])
    array = inputs[known[0]]
    if errors := list(_errors(array, options)):
        raise invalid_options(errors)
    axis = _axis(array)
    followed = _followed(array, axis, options)
    return Prepared(known[0], followed, axis, "layout" in options.model_fields_set)


def _axis(array: Array) -> Axis | None:
    if array.ndim == 3:
        return "none"
    if array.ndim != 4 or (array.shape[1] in _CHANNELS) == (array.shape[3] in _CHANNELS):
        return None
    return "first" if array.shape[1] in _CHANNELS else "last"


def _count(array: Array) -> int:
    axis = _axis(array)
    return 1 if axis in {None, "none"} else int(array.shape[1 if axis == "first" else 3])


def _errors(array: Array, options: ImageOptions) -> Iterator[FieldError]:
    said, axis, channels = options.model_fields_set, _axis(array), _count(array)
    shown = f"{array.dtype} {list(array.shape[1:])}"
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        yield FieldError("/image", f"images are uint8 or float; the array is {array.dtype}: convert it")
    if array.dtype.kind == "f" and options.dtype == "uint8":
        yield FieldError("/image/dtype", f"the array is {array.dtype}: float32 alone can come of it")
    if axis is None:
        why = f"rows of {shown} show no height, width and channels (1 or 3, first or last)"
        yield from (FieldError(f"/image/{field}", why) for field in _SPATIAL if field in said)
    elif "colour" in said and options.channels != channels:
        yield FieldError("/image/colour", f"rows of {shown} have {channels} channels, not {options.channels}")
    for field in ("mean", "std"):
        count = len(getattr(options, field))
        if count > 1 and (axis is None or count != channels):
            yield FieldError(f"/image/{field}", f"it has {count} values, rows of {shown} are not of as many")


def _followed(array: Array, axis: Axis | None, options: ImageOptions) -> ImageOptions:
    said = options.model_fields_set
    update: dict[str, object] = {}
    if "scale" not in said and array.dtype.kind == "f":
        update["scale"] = 1.0
    if "colour" not in said:
        update["colour"] = "RGB" if _count(array) == 3 else "GRAY"
    if "layout" not in said:
        update["layout"] = "NHWC" if axis == "last" else "NCHW"
    return options.model_copy(update=update)


def prepare(
    arrays: Mapping[str, Mapping[str, Array]], image: Prepared, scratch: Path
) -> dict[str, dict[str, Array]]:
    """Errors: CompressionError `image_size`, `limit_decoded_bytes`."""
    return {
        split: {
            name: _prepared(array, image, scratch / f"prepared{at}") if name == image.name else array
            for name, array in own.items()
        }
        for at, (split, own) in enumerate(arrays.items())
    }


def _prepared(array: Array, image: Prepared, into: Path) -> Array:
    rows = Growing(into)
    for chunk in chunks(array):
        values = chunk if chunk.dtype == np.uint8 else chunk.astype(np.float32)
        if image.channels is None:
            rows.append(pixels.scaled(values, image.options, channels=()))
        else:
            rows.append(np.stack([_row(row, image) for row in values]))
    return rows.whole()


def _row(row: Array, image: Prepared) -> Array:
    """Without an axis of channels there is none afterwards, unless a layout was asked for."""
    options, bare = image.options, image.channels == "none"
    last = row[..., None] if bare else row.transpose(1, 2, 0) if image.channels == "first" else row
    if options.resize or options.crop:
        last = _shaped(last, image)
    made = pixels.numbers(last, options)
    return made.reshape(last.shape[:2]) if bare and not image.layout_said else made


def _shaped(row: Array, image: Prepared) -> Array:
    """Each channel by itself, which is what Pillow does with all of them."""
    packages.require("resizing of arrays", ("pillow",), "images")
    from PIL import Image  # noqa: PLC0415  an extra

    from compression.intake import images  # noqa: PLC0415  loads it too

    bands = (Image.fromarray(np.ascontiguousarray(band)) for band in row.transpose(2, 0, 1))
    return np.stack([np.asarray(images.shaped(band, image.options, image.name)) for band in bands], axis=-1)
