"""Inputs for the peers benchmark, the same on every machine: rendered text, crops of two photographs."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono-Bold.ttf", "LiberationSans-Regular.ttf")
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/&%")
LINE = (192, 48)
PAGE = 320
PHOTO = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def _font(rng: Rng, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.truetype(str(rng.choice(FONTS)), size)
    except OSError:
        return ImageFont.load_default(size)


def _words(rng: Rng, count: int) -> str:
    return " ".join("".join(rng.choice(LETTERS, rng.integers(2, 9))) for _ in range(count))


def _colours(rng: Rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Paper and ink, far enough apart to be read."""
    paper, ink = rng.integers(150, 256, 3), rng.integers(0, 100, 3)
    pair = (tuple(map(int, paper)), tuple(map(int, ink)))
    return pair if rng.random() < 0.8 else pair[::-1]


def _noisy(image: Image.Image, rng: Rng) -> Floats:
    """Height, width, 3 in 0..1 with sensor noise."""
    pixels = np.asarray(image, np.float32) / 255
    noise = rng.normal(0, rng.uniform(0.005, 0.04), pixels.shape)
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


def _line(rng: Rng, upside_down: bool) -> Floats:
    paper, ink = _colours(rng)
    image = Image.new("RGB", LINE, paper)
    size = int(rng.integers(20, 36))
    at = (int(rng.integers(0, 16)), int(rng.integers(0, 48 - size)))
    ImageDraw.Draw(image).text(at, _words(rng, 3), fill=ink, font=_font(rng, size))
    image = image.rotate(float(rng.uniform(-3, 3)) + (180 if upside_down else 0), fillcolor=paper)
    return _noisy(image, rng).transpose(2, 0, 1) * 2 - 1


def text_lines(count: int, rng: Rng) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Text lines [count, 3, 48, 192] in -1..1; the label is 1 where the line stands on its head."""
    labels = rng.integers(0, 2, count)
    return np.stack([_line(rng, bool(label)) for label in labels]), labels.astype(np.int64)


def _page(rng: Rng) -> Floats:
    paper, ink = _colours(rng)
    image = Image.new("RGB", (PAGE, PAGE), paper)
    draw = ImageDraw.Draw(image)
    y = int(rng.integers(4, 30))
    while y < PAGE - 16:
        size = int(rng.integers(10, 34))
        draw.text((int(rng.integers(0, 90)), y), _words(rng, int(rng.integers(1, 6))), ink, _font(rng, size))
        y += int(size * rng.uniform(1.1, 2.2))
    image = image.rotate(float(rng.uniform(-4, 4)), fillcolor=paper)
    return ((_noisy(image, rng) - MEAN) / STD).transpose(2, 0, 1)


def pages(count: int, rng: Rng) -> Floats:
    """Pages of text [count, 3, 320, 320], normalised as the detector expects."""
    return np.stack([_page(rng) for _ in range(count)])


def _photographs() -> Iterator[Image.Image]:
    folder = Path(str(files("sklearn.datasets").joinpath("images")))
    for name in ("china.jpg", "flower.jpg"):
        yield Image.open(folder / name).convert("RGB")


def _crop(photo: Image.Image, rng: Rng) -> Floats:
    side = int(rng.integers(96, min(photo.size)))
    x, y = (int(rng.integers(0, length - side + 1)) for length in photo.size)
    image = photo.crop((x, y, x + side, y + side)).resize((PHOTO, PHOTO), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / 255 * float(rng.uniform(0.7, 1.1))
    normal = ((np.clip(pixels, 0, 1) - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
    return normal[:, :, :: rng.choice((1, -1))]


def crops(count: int, rng: Rng, *, held_out: bool) -> Floats:
    """Random crops [count, 3, 224, 224] of scikit-learn's two photographs: calibration sees their left 60 %,
    the held-out ones come from the right 40 %.
    """
    photos = []
    for photo in _photographs():
        cut = int(photo.width * 0.6)
        photos.append(
            photo.crop((cut, 0, photo.width, photo.height) if held_out else (0, 0, cut, photo.height))
        )
    return np.stack([_crop(photos[index % 2], rng) for index in range(count)])
