"""The short way of small PNGs gives what Pillow gives, or leaves them to it."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compression.intake import png

RANDOM = np.random.default_rng(0)


def encoded(array: np.ndarray, **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **more)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SMOOTH = (np.add.outer(np.arange(40), np.arange(30)) * 3 + RANDOM.integers(0, 5, (40, 30))).astype(np.uint8)
PLAIN = {
    "noise": encoded(RANDOM.integers(0, 256, (28, 28), np.uint8)),
    "all filters": encoded(SMOOTH),
    "colours": encoded(np.stack([SMOOTH, SMOOTH[::-1], SMOOTH.T.reshape(40, 30)], axis=2)),
    "resolution": encoded(SMOOTH, dpi=(72, 72)),
}
PLAIN["fewer lines than it says"] = (
    PLAIN["noise"][:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 99, 8, 0, 0, 0, 0)) + PLAIN["noise"][33:]
)


@pytest.mark.parametrize("name", PLAIN)
def test_the_pixels_are_pillows(name: str) -> None:
    image, theirs = png.opened(PLAIN[name]), Image.open(io.BytesIO(PLAIN[name]))
    assert image is not None
    assert image.mode == theirs.mode
    assert np.array_equal(np.asarray(image), np.asarray(theirs))


def with_chunk(data: bytes, kind: bytes) -> bytes:
    return data[:33] + chunk(kind, bytes(8)) + data[33:]


PALETTE = io.BytesIO()
Image.fromarray(SMOOTH).convert("P").save(PALETTE, "PNG")
LEFT = {
    "palette": PALETTE.getvalue(),
    "alpha": encoded(RANDOM.integers(0, 256, (8, 8, 4), np.uint8)),
    "16 bits": encoded(RANDOM.integers(0, 1 << 16, (8, 8), np.uint16)),
    "large": encoded(np.zeros((600, 600), np.uint8)),
    "animated": with_chunk(PLAIN["noise"], b"acTL"),
    "transparent": with_chunk(PLAIN["noise"], b"tRNS"),
    "checksum": PLAIN["noise"][:60] + b"\x00\x01" + PLAIN["noise"][62:],
    "cut": PLAIN["all filters"][:-30],
    "no lines": PLAIN["noise"][:33] + chunk(b"IEND", b""),
    "a JPEG": b"\xff\xd8\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_plain_is_left_to_pillow(name: str) -> None:
    assert png.opened(LEFT[name]) is None


@given(st.integers(0, len(PLAIN["all filters"]) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_what_pillow_gives(at: int, value: int) -> None:
    data = bytearray(PLAIN["all filters"])
    data[at] = value
    image = png.opened(bytes(data))
    assert image is None or np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(bytes(data)))))
