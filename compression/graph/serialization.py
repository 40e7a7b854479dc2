"""A model as bytes, piece by piece: the same bytes as protobuf's own, without a second copy of the
weights.
"""

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import onnx
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)
_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
"""Wire types of fields, and the lengths of those that have one."""
_LARGE = 64 << 20
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def parse(path: Path) -> onnx.ModelProto:
    """A large file is read tensor by tensor: its bytes and the message are never both in memory.

    Errors: google.protobuf.message.DecodeError.
    """
    if path.stat().st_size < _LARGE:
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
        return model
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _assembled(data)
        except IndexError:
            raise DecodeError("it ends in the middle of a field") from None


def _assembled(data: mmap.mmap) -> onnx.ModelProto:
    fields = list(_fields(data, 0, len(data)))
    graphs = [field for field in fields if field.number == _GRAPH]
    model: onnx.ModelProto = onnx.ModelProto.FromString(_joined(data, fields, _GRAPH))
    for graph in graphs:  # one, as everybody writes it; protobuf would merge more
        inner = list(_fields(data, graph.content, graph.end))
        model.graph.MergeFromString(_joined(data, inner, _INITIALIZER))
        for tensor in inner:
            if tensor.number == _INITIALIZER:
                model.graph.initializer.add().MergeFromString(data[tensor.content : tensor.end])
    return model


def _joined(data: mmap.mmap, fields: Sequence["_Field"], without: int) -> bytes:
    return b"".join(data[field.start : field.end] for field in fields if field.number != without)


class _Field(NamedTuple):
    number: int
    start: int
    content: int
    end: int


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[_Field]:
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
        yield _Field(tag >> 3, start, at, at + length)
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


def write(model: onnx.ModelProto, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(chunks(model))


def chunks(model: onnx.ModelProto) -> Iterator[bytes]:
    """Large tensors are copied one at a time, while the piece is in use."""
    before, after = _around(model, _GRAPH)
    head, tail = _around(model.graph, _INITIALIZER)
    tensors = model.graph.initializer
    length = len(head) + len(tail) + sum(_length(_INITIALIZER, _size(tensor)) for tensor in tensors)
    yield before + _tag(_GRAPH, length) + head
    for tensor in tensors:
        yield _tag(_INITIALIZER, _size(tensor))
        yield from _tensor(tensor)
    yield tail + after


def _tensor(tensor: onnx.TensorProto) -> Iterator[bytes]:
    if not tensor.HasField("raw_data"):
        yield tensor.SerializeToString(deterministic=True)
        return
    before, after = _around(tensor, _RAW_DATA)
    raw = tensor.raw_data
    yield before + _tag(_RAW_DATA, len(raw))
    yield raw
    yield after


def _size(tensor: onnx.TensorProto) -> int:
    return sum(len(piece) for piece in _tensor(tensor))


def _around(message: M, number: int) -> tuple[bytes, bytes]:
    """What comes before and after a field; fields are written in the order of their numbers."""
    parts = type(message)(), type(message)()
    for field, value in message.ListFields():
        if field.number != number:
            _copy(parts[field.number > number], field.name, value)
    before, after = (part.SerializePartialToString(deterministic=True) for part in parts)
    return before, after


def _copy(target: Message, name: str, value: object) -> None:
    if isinstance(value, Message):
        getattr(target, name).CopyFrom(value)
    elif isinstance(value, str | bytes | int | float):
        setattr(target, name, value)
    else:
        getattr(target, name).extend(value)


def _tag(number: int, length: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(length)


def _length(number: int, content: int) -> int:
    return len(_tag(number, content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
