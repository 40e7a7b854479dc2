"""A model as bytes, piece by piece: the same bytes as protobuf's own, without a second copy of the
weights, or without a first one.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError, Message

from compression import mapped
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph.fields import Field, fields

M = TypeVar("M", bound=Message)
_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_LARGE = 64 << 20
_TENSOR = onnx.TensorProto.DESCRIPTOR.fields_by_name
_RAW_DATA = _TENSOR["raw_data"].number
_ELSEWHERE = {_TENSOR["external_data"].number, _TENSOR["data_location"].number}
"""Fields of a tensor whose values lie in another file."""
_Read = Callable[[Path, mmap.mmap, Field, onnx.TensorProto], None]
"""Reads a tensor, whose field of the graph this is, from the file."""
LONGEST = 2**31 - 1
"""Bytes of a file: no parser of protobuf reads more."""


def parse(path: Path) -> onnx.ModelProto:
    """A large file is read tensor by tensor: its bytes and the message are never both in memory.

    Errors: google.protobuf.message.DecodeError.
    """
    if path.stat().st_size < _LARGE:
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
        return model
    return _assembled(path, _in_memory)


def outline(path: Path) -> onnx.ModelProto:
    """As `parse`, but of a large file the large initializers stay where they are (`compression.mapped`). The
    file must outlive the model, unchanged.

    Errors: google.protobuf.message.DecodeError.
    """
    return parse(path) if path.stat().st_size < mapped.FROM else _assembled(path, _in_file)


def _assembled(path: Path, read: _Read) -> onnx.ModelProto:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _model(data, lambda field, into: read(path, data, field, into))
        except IndexError:
            raise DecodeError("it ends in the middle of a field") from None


def _model(data: mmap.mmap, read: Callable[[Field, onnx.TensorProto], None]) -> onnx.ModelProto:
    outer = list(fields(data, 0, len(data)))
    graphs = [field for field in outer if field.number == _GRAPH]
    model: onnx.ModelProto = onnx.ModelProto.FromString(_joined(data, outer, _GRAPH))
    for graph in graphs:  # one, as everybody writes it; protobuf would merge more
        inner = list(fields(data, graph.content, graph.end))
        model.graph.MergeFromString(_joined(data, inner, _INITIALIZER))
        for tensor in inner:
            if tensor.number == _INITIALIZER:
                read(tensor, model.graph.initializer.add())
    return model


def _in_memory(_path: Path, data: mmap.mmap, field: Field, into: onnx.TensorProto) -> None:
    into.MergeFromString(data[field.content : field.end])


def _in_file(path: Path, data: mmap.mmap, field: Field, into: onnx.TensorProto) -> None:
    inner = list(fields(data, field.content, field.end)) if field.end - field.content > mapped.LEAST else []
    raw = [one for one in inner if one.number == _RAW_DATA]
    if not raw or any(one.number in _ELSEWHERE for one in inner):
        _in_memory(path, data, field, into)
        return
    into.MergeFromString(_joined(data, inner, _RAW_DATA))
    last = raw[-1]  # as protobuf does, should there be more
    mapped.refer(into, mapped.Place(path, last.content, last.end - last.content))


def _joined(data: mmap.mmap, fields: Sequence[Field], without: int) -> bytes:
    return b"".join(data[field.start : field.end] for field in fields if field.number != without)


def write(model: onnx.ModelProto, path: Path) -> None:
    """Errors: CompressionError `too_large`."""
    with path.open("wb") as file:
        file.writelines(chunks(model))


def chunks(model: onnx.ModelProto) -> Iterator[bytes | memoryview]:
    """Large tensors are copied one at a time, while the piece is in use; mapped ones, which are written as
    any others, not at all.

    Errors: CompressionError `too_large`.
    """
    before, after = _around(model, {_GRAPH})
    head, tail = _around(model.graph, {_INITIALIZER})
    tensors = model.graph.initializer
    length = len(head) + len(tail) + sum(_length(_INITIALIZER, _size(tensor)) for tensor in tensors)
    if len(before) + _length(_GRAPH, length) + len(after) > LONGEST:
        raise _too_large(length)
    yield before + _tag(_GRAPH, length) + head
    for tensor in tensors:
        yield _tag(_INITIALIZER, _size(tensor))
        yield from _tensor(tensor)
    yield tail + after


def _too_large(size: int) -> CompressionError:
    return CompressionError(
        "too_large",
        f"the model takes {size} bytes; one ONNX file holds at most {LONGEST} (2 GiB, protobuf's limit)",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion("store the weights in fewer bits first, or split the model in two"),),
    )


def _tensor(tensor: onnx.TensorProto) -> Iterator[bytes | memoryview]:
    if not mapped.is_mapped(tensor) and not tensor.HasField("raw_data"):
        yield tensor.SerializeToString(deterministic=True)
        return
    before, after = _around(tensor, {_RAW_DATA, *(_ELSEWHERE if mapped.is_mapped(tensor) else ())})
    raw = mapped.content(tensor) if mapped.is_mapped(tensor) else tensor.raw_data
    yield before + _tag(_RAW_DATA, len(raw))
    yield raw
    yield after


def _size(tensor: onnx.TensorProto) -> int:
    return sum(len(piece) for piece in _tensor(tensor))


def _around(message: M, numbers: set[int]) -> tuple[bytes, bytes]:
    """What comes before and after the first of these fields, without the others; fields are written in the
    order of their numbers.
    """
    parts = type(message)(), type(message)()
    for field, value in message.ListFields():
        if field.number not in numbers:
            _copy(parts[field.number > min(numbers)], field.name, value)
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
