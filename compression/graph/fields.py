"""Fields of a protobuf message on the wire."""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError

_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
"""Wire types of fields, and the lengths of those that have one."""


class Field(NamedTuple):
    number: int
    start: int
    content: int
    end: int


def fields(data: mmap.mmap, at: int, end: int) -> Iterator[Field]:
    """Of one message. Errors: DecodeError, IndexError."""
    while at < end:
        start = at
        tag, at = _read_varint(data, at)
        length = _FIXED.get(tag & 7)
        if tag & 7 == _DELIMITED:
            length, at = _read_varint(data, at)
        elif tag & 7 == _VARINT:
            _, at = _read_varint(data, at)
            length = 0
        if length is None or at + length > end:
            raise DecodeError("a field is longer than its message, or of no known kind")
        yield Field(tag >> 3, start, at, at + length)
        at += length


def _read_varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise DecodeError("a number is longer than any")
