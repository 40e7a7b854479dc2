"""Protobuf on the wire: messages of any kind, field by field, before the library that they are meant for."""

from collections.abc import Iterator
from dataclasses import dataclass

from compression.errors import CompressionError
from compression.validation.limits import MAX_FIELDS

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED = {_I64: 8, _I32: 4}


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_saved_model", why)


class Budget:
    """Of fields that are looked at in one file."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CompressionError("limit_nodes", f"the file has more than {MAX_FIELDS} fields")


@dataclass(frozen=True)
class Message:
    data: memoryview
    budget: Budget

    def messages(self, number: int) -> Iterator["Message"]:
        """Of a repeated field, or the entries of a map."""
        for data in self._contents(number):
            yield Message(data, self.budget)

    def message(self, number: int) -> "Message":
        """Of a single field: where it occurs more than once, its readers merge what they find."""
        found = list(self._contents(number))
        return Message(found[0] if len(found) == 1 else memoryview(b"".join(found)), self.budget)

    def texts(self, number: int) -> list[str]:
        return [bytes(data).decode("utf-8", "replace") for data in self._contents(number)]

    def text(self, number: int) -> str:
        """The last one, as its readers do."""
        return next(reversed(self.texts(number)), "")

    def number(self, number: int) -> int:
        found = [value for field, value in self._read() if field == number and isinstance(value, int)]
        return found[-1] if found else 0

    def _contents(self, number: int) -> Iterator[memoryview]:
        for field, value in self._read():
            if field == number and isinstance(value, memoryview):
                yield value

    def _read(self) -> Iterator[tuple[int, memoryview | int]]:
        """Errors: CompressionError `invalid_saved_model`, `limit_nodes`."""
        at, data = 0, self.data
        while at < len(data):
            self.budget.spend()
            tag, at = _varint(data, at)
            kind, number = tag & 7, tag >> 3
            if kind == _VARINT:
                value, at = _varint(data, at)
                yield number, value
                continue
            length, at = _varint(data, at) if kind == _LEN else (_FIXED.get(kind, -1), at)
            if length < 0 or number == 0 or at + length > len(data):
                raise invalid("not a protobuf file, or one that is cut off")
            if kind == _LEN:
                yield number, data[at : at + length]
            at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise invalid("not a protobuf file, or one that is cut off")
