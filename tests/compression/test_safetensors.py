"""The header of a safetensors file, against its bytes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compression.errors import CompressionError
from compression.validation import safetensors


def _entry(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _code(content: bytes, folder: Path) -> str:
    path = folder / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CompressionError) as refusal:
        safetensors.check(path)
    return refusal.value.code


def test_what_the_library_writes_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        save({"b": np.zeros((2, 3), np.float16), "a": np.zeros(0, np.int64)}, metadata={"format": "pt"})
    )
    assert {name: (held.dtype, held.shape) for name, held in safetensors.check(path).items()} == {
        "b": ("F16", (2, 3)),
        "a": ("I64", (0,)),
    }


HOSTILE = {
    "empty": b"",
    "no header": bytes(8),
    "header of 2^62": _file({}, length=1 << 62),
    "header beyond the file": _file({}, length=3),
    "header too long": struct.pack("<Q", 40 << 20) + b"{}" + bytes(40 << 20),
    "no JSON": _file(b"{'a'}"),
    "a list": _file([]),
    "deep": _file(b'{"a":' * 100_000),
    "no UTF-8": _file(b"{\xff}"),
    "a name twice": _file(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', bytes(4)),
    "shape other than bytes": _file({"a": _entry([2], 0, 4)}, bytes(4)),
    "shape that overflows": _file({"a": _entry([2**40, 2**40], 0, 4)}, bytes(4)),
    "size beyond 2^63": _file({"a": _entry([2**64], 0, 4)}, bytes(4)),
    "size below 0": _file({"a": _entry([-1], 0, 4)}, bytes(4)),
    "size that is true": _file({"a": _entry([True], 0, 4)}, bytes(4)),
    "size that is no whole number": _file({"a": _entry([1.0], 0, 4)}, bytes(4)),
    "end before begin": _file({"a": _entry([], 4, 0)}, bytes(4)),
    "beyond the end": _file({"a": _entry([2], 0, 8)}, bytes(4)),
    "shared bytes": _file({"a": _entry([], 0, 4), "b": _entry([], 0, 4)}, bytes(4)),
    "bytes of none": _file({"a": _entry([], 4, 8)}, bytes(8)),
    "bytes after the last": _file({"a": _entry([], 0, 4)}, bytes(5)),
    "unknown type": _file({"a": _entry([], 0, 4, "PICKLE")}, bytes(4)),
    "type that is no text": _file({"a": _entry([], 0, 4, ["F32"])}, bytes(4)),
    "unknown entry": _file({"a": _entry([], 0, 4) | {"location": "/etc/passwd"}}, bytes(4)),
    "no object": _file({"a": 1}),
    "three offsets": _file({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 0, 4]}}, bytes(4)),
    "many axes": _file({"a": _entry([1] * 17, 0, 4)}, bytes(4)),
    "metadata of numbers": _file({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name: str, tmp_path: Path) -> None:
    assert _code(HOSTILE[name], tmp_path) == "invalid_safetensors"


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    content = _file({f"t{index}": _entry([0], 0, 0) for index in range(200_000)})
    assert _code(content, tmp_path) == "limit_tensors"


@given(data=st.data())
def test_what_is_taken_the_library_takes_too(data: st.DataObject, tmp_path_factory: Any) -> None:
    """One byte changed: what this check passes must be no surprise to the reader."""
    sound = bytearray(save({"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.int64)}))
    at = data.draw(st.integers(0, len(sound) - 1))
    sound[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "x.safetensors"
    path.write_bytes(sound)
    try:
        held = safetensors.check(path)
    except CompressionError:
        return
    try:
        read = load(bytes(sound))
    except SafetensorError as error:
        pytest.fail(f"taken, but {error}")
    assert {name: one.shape for name, one in held.items()} == {name: one.shape for name, one in read.items()}
