"""External data of a hostile model: read only from files unpacked by ourselves, and moved into the model."""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

from compression.errors import CompressionError, Suggestion
from compression.validation import paths, tensors
from compression.validation.limits import MAX_BYTES, MAX_SHARING

_KEYS = frozenset({"location", "offset", "length", "checksum"})


class _Place(NamedTuple):
    tensor: TensorProto
    location: str
    offset: int
    size: int


def merge(model: onnx.ModelProto, folder: Path | None) -> None:
    """Moves the bytes of external tensors into the model; `folder` holds the files, None if there are none.

    Errors: CompressionError `external_data_refused`, `external_data_range`, `limit_decoded_bytes`.
    """
    places = [_place(tensor) for tensor in tensors.every(model) if _is_external(tensor)]
    if not places:
        return
    if folder is None:
        raise _refused(
            f"the weights are in another file ({places[0].location[:80]!r})",
            "upload a zip or tar with the .onnx file and its data, or save the model as one file",
        )
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(_open(folder, name)) for name in {place.location for place in places}
        }
        _check_sharing(places, sum(len(data) for data in files.values()))
        for place in places:
            _move(place, files[place.location])


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def _place(tensor: TensorProto) -> _Place:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not set(entries) <= _KEYS:
        raise _refused(f"tensor {tensor.name!r} has unknown or repeated entries in external_data")
    if not paths.is_plain(entries.get("location", "")):
        raise _refused(f"tensor {tensor.name!r} does not lie in a plain relative path")
    size = tensors.declared_bytes(tensor)
    offset, length = _number(entries, "offset", 0), _number(entries, "length", size)
    if (
        offset < 0
        or offset + size > MAX_BYTES * 4
        or length != size
        or tensor.data_type == TensorProto.STRING
    ):
        raise _range(tensor.name)
    return _Place(tensor, entries["location"], offset, size)


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise _range(key)
    return int(text)


@contextlib.contextmanager
def _open(folder: Path, name: str) -> Iterator[mmap.mmap | bytes]:
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise _refused(f"the archive holds no file {name[:80]!r}")
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _check_sharing(places: list[_Place], stored: int) -> None:
    decoded = sum(place.size for place in places)
    if decoded > max(1, stored) * MAX_SHARING:
        raise CompressionError(
            "limit_decoded_bytes", f"{stored} external bytes stand for {decoded} bytes of weights"
        )


def _move(place: _Place, data: mmap.mmap | bytes) -> None:
    if place.offset + place.size > len(data):
        raise _range(place.tensor.name)
    tensor = place.tensor
    tensor.raw_data = data[place.offset : place.offset + place.size]
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _refused(why: str, way_out: str = "") -> CompressionError:
    return CompressionError(
        "external_data_refused", why, suggestions=(Suggestion(way_out),) if way_out else ()
    )


def _range(name: str) -> CompressionError:
    return CompressionError(
        "external_data_range", f"external data of {name!r} lies outside its file or has another size"
    )
