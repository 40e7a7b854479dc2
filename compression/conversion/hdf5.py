"""HDF5 from strangers, before its values are read: groups and arrays inside the one file, as many as it
can hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.validation.archive import Budget
from compression.validation.limits import MAX_BYTES, MAX_TENSORS

_FILTERS = frozenset({"gzip", "lzf", None})
"""Others are loaded from the disk as plug-ins."""
_KINDS = frozenset("fiub")


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_hdf5", why)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Errors: CompressionError `invalid_hdf5`, also for what is read inside the block."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise invalid(f"the HDF5 file is damaged: {type(error).__name__}") from error


def check(path: Path) -> int:
    """How many numbers its arrays hold.

    Errors: CompressionError `invalid_hdf5`, `h5_link_refused`, `limit_decoded_bytes`, `limit_tensors`."""
    budget = Budget(path.stat().st_size, most=MAX_BYTES, ratio_code="limit_decoded_bytes")
    decoded = seen = numbers = 0
    with opened(path) as file:
        groups = [file["/"]]
        while groups:
            group = groups.pop()
            for name in group:
                seen += 1
                if seen > MAX_TENSORS:
                    raise CompressionError("limit_tensors", f"the file holds more than {MAX_TENSORS} objects")
                found = _child(group, name)
                if isinstance(found, h5py.Group):
                    groups.append(found)
                    continue
                decoded += _size(found, name)
                numbers += int(found.size)
                budget.check(decoded)
    return numbers


def _child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    if type(group.get(name, getlink=True)) is not h5py.HardLink:
        raise _link(f"{name[:80]!r} is a soft or an external link")
    found = group[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise invalid(f"{name[:80]!r} is neither a group nor an array")
    return found


def _size(array: h5py.Dataset, name: str) -> int:
    if array.external or array.is_virtual:
        raise _link(f"the values of {name[:80]!r} lie in another place")
    if array.dtype.kind not in _KINDS or array.shape is None or array.compression not in _FILTERS:
        raise invalid(f"{name[:80]!r} is no plain array of numbers")
    return int(array.size) * int(array.dtype.itemsize)


def _link(why: str) -> CompressionError:
    return CompressionError(
        "h5_link_refused",
        why,
        ErrorKind.INPUT,
        suggestions=(Suggestion("save the model as one file, without links"),),
    )
