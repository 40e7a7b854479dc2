"""Encoded images -> one mapped array, decoded in threads: the sandbox starts no processes, and decoders let
go of the interpreter's lock.
"""

import io
import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from compression.dataset import Array
from compression.errors import CompressionError
from compression.inspection import Skipped, SkippedFile
from compression.intake import pixels, png
from compression.intake.growing import check_size
from compression.preprocessing import DatasetOptions, ImageOptions
from compression.validation.limits import MAX_PIXELS

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_BROKEN = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError)
_AT_ONCE = 64
_NAMED = 20

Read = Callable[[int], bytes]


@dataclass(frozen=True)
class Decoded:
    """`rows` are those of `array` that hold an image."""

    array: Array
    rows: Array
    skipped: Skipped


def decode_all(read: Read, names: Sequence[str], options: DatasetOptions, into: Path) -> Decoded:
    """`read` is called from several threads.

    Errors: CompressionError `image_pixels`, `images_broken`, `image_size`, `limit_decoded_bytes`.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    shape = _first_shape(read, names, options.image)
    dtype = np.dtype(options.image.dtype)
    size = math.prod(shape) * dtype.itemsize
    check_size(len(names) * size)
    broken: dict[int, str] = {}
    most = options.most_broken(len(names))

    def some(start: int) -> dict[int, str]:
        """Which of them are broken, and why."""
        found = {}
        for row in range(start, min(start + _AT_ONCE, len(names))):
            try:
                image = _fitting(_decode(read(row), names[row], options.image), shape, names[row])
            except _BROKEN as error:
                found[row] = _reason(error)
            else:
                os.pwrite(file.fileno(), image.data, row * size)
        return found

    with into.open("xb") as file, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        file.truncate(len(names) * size)  # rows of broken images stay holes
        for found in threads.map(some, range(0, len(names), _AT_ONCE)):  # in order, whoever is done first
            broken |= found
            if len(broken) > most:
                raise _too_many(broken, names, most)
    array: Array = np.memmap(into, dtype, "r", 0, (len(names), *shape))
    kept = np.setdiff1d(np.arange(len(names)), np.array(sorted(broken), np.int64))
    first = tuple(SkippedFile(name=names[row], reason=broken[row]) for row in sorted(broken)[:_NAMED])
    return Decoded(array, kept, Skipped(count=len(broken), first=first))


def _first_shape(read: Read, names: Sequence[str], options: ImageOptions) -> tuple[int, ...]:
    for row, name in enumerate(names):
        try:
            shape: tuple[int, ...] = _decode(read(row), name, options).shape
        except _BROKEN:
            continue
        return shape
    raise CompressionError("images_broken", f"none of the {len(names)} images can be read")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # what it says is where in memory the bytes lie
        return f"not recognised as an image; {', '.join(_FORMATS)} are read"
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:160]


def _too_many(broken: dict[int, str], names: Sequence[str], most: int) -> CompressionError:
    row = min(broken)
    return CompressionError(
        "images_broken", f"more than {most} images cannot be read, {names[row][:80]!r} first: {broken[row]}"
    )


def _fitting(image: Array, shape: tuple[int, ...], name: str) -> Array:
    if image.shape != shape:
        detail = f"{name[:80]!r} is {list(image.shape)}, the first image {list(shape)}; say image.resize"
        raise CompressionError("image_size", detail)
    return image


def _decode(data: bytes, name: str, options: ImageOptions) -> Array:
    image = _opened(data, name)
    mode = "L" if options.colour == "GRAY" else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    image = shaped(image, options, name)
    decoded = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, options.channels)
    return pixels.numbers(decoded, options)


def shaped(image: Image.Image, options: ImageOptions, name: str) -> Image.Image:
    """Resized and cropped. Errors: CompressionError `image_size`, `image_pixels`."""
    if options.resize:
        size = _size(image, options.resize)
        image = image.resize(size, Image.Resampling[options.resample.upper()])
    if options.crop:
        image = _cropped(image, options.crop, name)
    return image


def _opened(data: bytes, name: str) -> Image.Image:
    if small := png.opened(data):
        return small
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _pixels(f"{name[:80]!r} has more than {MAX_PIXELS} pixels") from None
    if image.width * image.height > MAX_PIXELS:
        raise _pixels(f"{name[:80]!r} has {image.width * image.height} pixels, more than {MAX_PIXELS}")
    if getattr(image, "is_animated", False):
        raise _pixels(f"{name[:80]!r} is animated; an image is one frame")
    return image


def _size(image: Image.Image, wanted: tuple[int, int] | int) -> tuple[int, int]:
    """Width and height. One number is the shorter side's; the other follows, rounded down, and is bounded:
    an image may be a thousand times as wide as high.
    """
    if not isinstance(wanted, int):
        return wanted[1], wanted[0]
    short, long = sorted(image.size)
    other = wanted * long // short
    if wanted * other > MAX_PIXELS:
        raise _pixels(f"resized it has {wanted * other} pixels, more than {MAX_PIXELS}")
    return (wanted, other) if image.width <= image.height else (other, wanted)


def _cropped(image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    top, left = (image.height - size[0]) // 2, (image.width - size[1]) // 2
    if top < 0 or left < 0:
        raise CompressionError("image_size", f"{name[:80]!r} is smaller than image.crop; say image.resize")
    return image.crop((left, top, left + size[1], top + size[0]))


def _pixels(why: str) -> CompressionError:
    return CompressionError("image_pixels", why)


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit is the lower one
