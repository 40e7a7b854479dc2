"""A model as bytes, piece by piece: the same bytes as protobuf's own, without a second copy of the
weights.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def parse(path: Path) -> onnx.ModelProto:
    """Errors: google.protobuf.message.DecodeError."""
    model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    return model


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
