"""safetensors of strangers: the header against the bytes that are there, before any reader sees it.

Layout: eight bytes of header length, a JSON object of name -> dtype, shape and byte range, then the bytes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compression.errors import CompressionError
from compression.validation.limits import MAX_TENSORS

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_MAX_HEADER_BYTES = 32 << 20
_MAX_AXES = 16
_MAX_NAME = 500
_LENGTH = 8
_METADATA = "__metadata__"


class Stored(NamedTuple):
    """One tensor, as its header declares it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def check(path: Path) -> dict[str, Stored]:
    """The tensors by name; each lies inside the file, beside the others, and is as long as its shape says.

    Errors: CompressionError `invalid_safetensors`, `limit_tensors`.
    """
    header, data_bytes = _header(path)
    if len(header) > MAX_TENSORS:
        raise CompressionError("limit_tensors", f"the file holds more than {MAX_TENSORS} tensors")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise invalid(f"{_METADATA} is no object of texts")
    tensors = {name: _stored(name, entry) for name, entry in header.items()}
    _check_ranges(tensors, data_bytes)
    return tensors


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_safetensors", why)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """And how many bytes follow it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 2 <= length <= size - _LENGTH:
            raise invalid(f"the header claims {length} bytes of a file of {size}")
        if length > _MAX_HEADER_BYTES:
            raise invalid(f"the header is longer than {_MAX_HEADER_BYTES} bytes")
        text = file.read(length)
    return _parse(text), size - _LENGTH - length


def _parse(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise invalid("the header is not JSON in which each name occurs once") from None
    if not isinstance(found, dict) or not text.startswith(b"{"):
        raise invalid("the header is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _stored(name: str, entry: Any) -> Stored:
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise invalid(f"tensor {name[:80]!r} needs dtype, shape and data_offsets, and nothing else")
    if len(name) > _MAX_NAME or entry["dtype"] not in list(_BITS):
        raise invalid(f"tensor {name[:80]!r} is of no known type, or its name is too long")
    shape, offsets = _sizes(name, entry["shape"]), _sizes(name, entry["data_offsets"])
    if len(shape) > _MAX_AXES or len(offsets) != 2:
        raise invalid(f"tensor {name[:80]!r} has too many axes, or no begin and end")
    tensor = Stored(entry["dtype"], shape, *offsets)
    if tensor.elements * _BITS[tensor.dtype] != (tensor.end - tensor.begin) * 8:
        raise invalid(f"tensor {name[:80]!r}: {list(shape)[:8]} of {tensor.dtype} are other than its bytes")
    return tensor


def _sizes(name: str, values: Any) -> tuple[int, ...]:
    """JSON has integers of any length; those of a file are below 2 ** 63."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise invalid(f"tensor {name[:80]!r} has an impossible size")
    return tuple(values)


def _check_ranges(tensors: Mapping[str, Stored], data_bytes: int) -> None:
    """One after another, without holes: what nobody reads is not carried along."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise invalid(f"tensor {name[:80]!r} overlaps another one, or bytes before it belong to none")
        end = tensor.end
    if end != data_bytes:
        raise invalid(f"the tensors end at byte {end}, the data at {data_bytes}")
