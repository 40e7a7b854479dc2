"""A look at a protobuf file on the wire: its messages are counted and measured before any parser
builds them.
"""

import mmap
from collections import Counter
from pathlib import Path

from google.protobuf.descriptor import Descriptor
from onnx import ModelProto

from compression.errors import CompressionError
from compression.validation.limits import MAX_BYTES, MAX_FIELDS, MAX_GRAPH_DEPTH, MAX_NODES, MAX_TENSORS

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED = {_I64: 8, _I32: 4}
_LIMITS = {"NodeProto": (MAX_NODES, "limit_nodes"), "TensorProto": (MAX_TENSORS, "limit_tensors")}
_DEEPEST = MAX_GRAPH_DEPTH * 3 + 16
"""Messages within messages: a graph in a graph is three; types and tensors lie deeper by a few."""

Children = dict[int, "Message"]


class Message:
    """A message type and its fields that are messages themselves, found once from ONNX's own descriptors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: Children = {}


def _message(descriptor: Descriptor, known: dict[str, Message]) -> Message:
    if descriptor.full_name not in known:
        message = known[descriptor.full_name] = Message(descriptor.name)
        for field in descriptor.fields:
            if field.message_type is not None:
                message.children[field.number] = _message(field.message_type, known)
    return known[descriptor.full_name]


_MODEL = _message(ModelProto.DESCRIPTOR, {})


def scan(path: Path) -> None:
    """Errors: CompressionError `empty_file`, `too_large`, `invalid_onnx`, `limit_nodes`, `limit_tensors`,
    `limit_depth`.
    """
    size = path.stat().st_size
    if size == 0:
        raise CompressionError("empty_file", "the file is empty")
    if size > MAX_BYTES:
        raise CompressionError("too_large", f"{size} bytes; one ONNX file holds at most {MAX_BYTES}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _scan(data)
        except IndexError:
            raise _broken("it ends in the middle of a field") from None


def _scan(data: mmap.mmap) -> None:
    counts: Counter[str] = Counter()
    stack: list[tuple[Message, int, int]] = [(_MODEL, len(data), 0)]
    at = fields = 0
    while stack:
        message, end, graphs = stack[-1]
        if at >= end:
            if at > end:
                raise _broken("a field is longer than the message that holds it")
            stack.pop()
            continue
        fields += 1
        child, length, at = _field(data, at, message)
        if child is None:
            at += length
            continue
        depth = graphs + (child.name == "GraphProto")
        _bound(counts, child.name, depth, len(stack))
        if at + length > end:
            raise _broken("a message is longer than the one that holds it")
        stack.append((child, at + length, depth))
        if fields > MAX_FIELDS:
            raise CompressionError("limit_nodes", f"the file has more than {MAX_FIELDS} fields")


def _bound(counts: Counter[str], name: str, graphs: int, depth: int) -> None:
    counts[name] += 1
    most, code = _LIMITS.get(name, (MAX_FIELDS, "limit_nodes"))
    if counts[name] > most:
        raise CompressionError(code, f"the model has more than {most} {name.removesuffix('Proto').lower()}s")
    if graphs > MAX_GRAPH_DEPTH or depth > _DEEPEST:
        raise CompressionError("limit_depth", f"graphs are nested more than {MAX_GRAPH_DEPTH} deep")


def _field(data: mmap.mmap, at: int, message: Message) -> tuple[Message | None, int, int]:
    """The message type of the field's content if it is one, the content's length, and where it starts."""
    tag, at = _varint(data, at)
    kind, number = tag & 7, tag >> 3
    if number == 0:
        raise _broken("a field has number 0")
    if kind == _LEN:
        length, at = _varint(data, at)
        if at + length > len(data):
            raise _broken("a field is longer than the file")
        return message.children.get(number), length, at
    if kind == _VARINT:
        _, at = _varint(data, at)
        return None, 0, at
    if kind in _FIXED:
        return None, _FIXED[kind], at
    raise _broken(f"wire type {kind} is none of ONNX's")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while byte >= 0x80:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise _broken("a number is longer than 64 bits")
    return value, at + 1


def _broken(why: str) -> CompressionError:
    return CompressionError("invalid_onnx", f"not an ONNX file: {why}")
