"""External data of a hostile model: read only from files unpacked by ourselves, and moved into the model."""

from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

from compression import mapped
from compression.errors import CompressionError, Suggestion
from compression.validation import paths, tensors
from compression.validation.limits import MAX_BYTES, MAX_SHARING

_KEYS = frozenset({"location", "offset", "length", "checksum"})


class _Place(NamedTuple):
    tensor: TensorProto
    location: str
    offset: int
    size: int
    stays: bool
    """Whether the writer can take the bytes from there."""


def merge(model: onnx.ModelProto, path: Path, folder: Path | None) -> None:
    """Moves the bytes of external tensors into the model: those of large initializers stay where they are,
    mapped. `path` is the model's own file, which it may refer to; `folder` holds others, None if there are
    none.

    Errors: CompressionError `external_data_refused`, `external_data_range`, `limit_decoded_bytes`.
    """
    own = str(path.resolve()).removeprefix(mapped.ROOT)
    initializers = len(model.graph.initializer)  # they come first
    places = [
        _place(tensor, own, position < initializers)
        for position, tensor in enumerate(tensors.every(model))
        if _is_external(tensor)
    ]
    others = [place.location for place in places if place.location != own]
    if others and folder is None:
        raise _refused(
            f"the weights are in another file ({others[0][:80]!r})",
            "upload a zip or tar with the .onnx file and its data, or save the model as one file",
        )
    files = {name: _file(folder, name) for name in others if folder is not None} | {own: path}
    _check_sharing(places, sum(files[name].stat().st_size for name in {place.location for place in places}))
    for place in places:
        _move(place, files[place.location])


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def _place(tensor: TensorProto, own: str, initializer: bool) -> _Place:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not set(entries) <= _KEYS:
        raise _refused(f"tensor {tensor.name!r} has unknown or repeated entries in external_data")
    location = entries.get("location", "")
    if location != own and not paths.is_plain(location):
        raise _refused(f"tensor {tensor.name!r} does not lie in a plain relative path")
    size = tensors.declared_bytes(tensor)
    offset, length = _number(entries, "offset", 0), _number(entries, "length", size)
    if (
        offset < 0
        or offset + size > MAX_BYTES * 4
        or length != size
        or tensor.data_type == TensorProto.STRING
    ):
        raise tensors.mismatch(tensor) if location == own else _range(tensor.name)
    return _Place(tensor, location, offset, size, initializer and size >= mapped.LEAST)


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise _range(key)
    return int(text)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise _refused(f"the archive holds no file {name[:80]!r}")
    return path


def _check_sharing(places: list[_Place], stored: int) -> None:
    decoded = sum(place.size for place in places)
    if decoded > max(1, stored) * MAX_SHARING:
        raise CompressionError(
            "limit_decoded_bytes", f"{stored} external bytes stand for {decoded} bytes of weights"
        )


def _move(place: _Place, path: Path) -> None:
    tensor, end = place.tensor, place.offset + place.size
    if end > path.stat().st_size:
        raise _range(tensor.name)
    if place.stays:
        mapped.refer(tensor, mapped.Place(path, place.offset, place.size))
        return
    with path.open("rb") as file:
        file.seek(place.offset)
        tensor.raw_data = file.read(place.size)
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
