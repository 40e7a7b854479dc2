"""A hostile .npz -> a normalised one: stored uncompressed, every array under a split, each at an aligned
offset.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy

from compression.errors import CompressionError, ErrorKind
from compression.fit import LABELS
from compression.validation import archive
from compression.validation.limits import MAX_DATASET_BYTES, MAX_DATASET_RATIO

SPLITS = ("train", "calibration", "test")
CALIBRATION = 512
"""Samples set aside for calibration where the data set is not split by its owner."""
_CHUNK = 4 << 20
_ALIGNMENT = 64
_PADDING_ID = 0xD935  # the extra field that aligns members of an archive

Array = np.ndarray[Any, np.dtype[Any]]


class Part(NamedTuple):
    """Rows of an array that may be too large for memory; all of them where `rows` is None."""

    array: Array
    rows: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape if self.rows is None else (len(self.rows), *self.array.shape[1:])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.array.dtype.itemsize

    def chunk(self, start: int, stop: int) -> Array:
        chosen = slice(start, stop) if self.rows is None else self.rows[start:stop]
        return np.ascontiguousarray(self.array[chosen])


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def unpacked(path: Path, scratch: Path) -> dict[str, Array]:
    """By name of the member, mapped.

    Errors: CompressionError `invalid_archive`, `member_refused`, `npy_pickle`, `invalid_npy`,
    `invalid_dataset`, `limit_decoded_bytes`.
    """
    folder = scratch / "arrays"
    folder.mkdir(parents=True)
    budget = archive.Budget(path.stat().st_size, MAX_DATASET_BYTES, MAX_DATASET_RATIO, "limit_decoded_bytes")
    with archive.open_zip(path) as source:
        infos = archive.members(source, budget)
        if not infos:
            raise _invalid("the archive holds no array")
        return {_name(info): _unpack(source, info, folder / f"{at}.npy") for at, info in enumerate(infos)}


def _name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not name.endswith(".npy"):
        raise CompressionError(
            "member_refused", f"member {name[:80]!r} is no .npy array; a data set holds nothing else"
        )
    return name.removesuffix(".npy")


def _unpack(source: zipfile.ZipFile, info: zipfile.ZipInfo, into: Path) -> Array:
    with source.open(info) as member:
        header = _read_header(member, info.filename)
        size = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
        if size != info.file_size - member.tell():
            raise _npy(
                f"array {info.filename[:80]!r} does not hold what its shape {_shown(header.shape)} says"
            )
        with into.open("xb") as file:
            while chunk := member.read(_CHUNK):
                file.write(chunk)
    return _mapped(into, header)


def _mapped(path: Path, header: _Header, at: int = 0) -> Array:
    order: Literal["F", "C"] = "F" if header.fortran_order else "C"
    array: Array = np.memmap(path, header.dtype, "r", at, header.shape, order)
    return array


def _read_header(member: IO[bytes], name: str) -> _Header:
    try:
        version = npy.read_magic(member)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        header = _Header(*read(member, max_header_size=4096))
    except (KeyError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError):
        raise _npy(f"array {name[:80]!r} has no readable header") from None
    _check(header, name)
    return header


def _check(header: _Header, name: str) -> None:
    if header.dtype.hasobject:
        raise CompressionError(
            "npy_pickle", f"array {name[:80]!r} holds pickled objects, which run code when read"
        )
    if header.dtype.kind not in "biuf" or not header.dtype.isnative or header.dtype.itemsize > 8:
        raise _npy(f"array {name[:80]!r} is {header.dtype}; numbers of at most 64 bits are read")
    if not header.shape or any(not isinstance(size, int) or size < 1 for size in header.shape):
        shown = f"array {name[:80]!r} is {_shown(header.shape)}"
        raise _npy(f"{shown}; the first axis must count samples, none may be empty")


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape[:8]))


def opened(path: Path) -> Array:
    """A single .npy, mapped.

    Errors: CompressionError `npy_pickle`, `invalid_npy`.
    """
    with path.open("rb") as source:
        header = _read_header(source, path.name)
        at, size = source.tell(), path.stat().st_size
    if math.prod(header.shape) * header.dtype.itemsize != size - at:
        raise _npy(f"the array does not hold what its shape {_shown(header.shape)} says")
    return _mapped(path, header, at)


def split(arrays: Mapping[str, Array]) -> dict[str, Part]:
    """By `split/name`, in order: as the names say, else cut by a fixed permutation.

    Errors: CompressionError `invalid_dataset`.
    """
    parts = _check_splits(arrays) if "/" in next(iter(checked_names(arrays))) else _cut(arrays)
    return {name: parts[name] for name in sorted(parts)}


def checked_names(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Errors: CompressionError `invalid_dataset` of a name that is neither `split/name` nor without a split
    like all others.
    """
    named = [name for name in arrays if "/" in name]
    if named and len(named) != len(arrays):
        raise _invalid("either every array is under a split (test/image) or none is")
    for name in named:
        split, _, rest = name.partition("/")
        if split not in SPLITS or not rest or "/" in rest:
            raise _invalid(
                f"array {name[:80]!r} is not named split/name with split one of {', '.join(SPLITS)}"
            )
    return arrays


def _check_splits(arrays: Mapping[str, Array]) -> dict[str, Part]:
    parts = {name: Part(array) for name, array in arrays.items()}
    for split in SPLITS:
        own = {name: array for name, array in arrays.items() if name.startswith(f"{split}/")}
        if own and not {name.split("/")[1] for name in own} - set(LABELS):
            raise _invalid(f"split {split!r} has labels but no inputs")
        check_length(own, f"split {split!r}")
    if not any(name.startswith("calibration/") for name in arrays):
        train = {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("train/")}
        if train:
            order = _order(check_length(train, "train"))[:CALIBRATION]
            parts |= {f"calibration/{name}": Part(array, np.sort(order)) for name, array in train.items()}
    return parts


def _cut(arrays: Mapping[str, Array]) -> dict[str, Part]:
    """A fifth for the test, up to 512 or a fifth to calibrate with, the rest to train; by a fixed
    permutation.
    """
    if not set(arrays) - set(LABELS):
        raise _invalid("the data set has labels but no inputs")
    n = check_length(arrays, "the data set")
    order = _order(n)
    test = max(1, n // 5)
    calibration = min(CALIBRATION, max(1, n // 5))
    cuts = {
        "test": order[:test],
        "calibration": order[test : test + calibration],
        "train": order[test + calibration :],
    }
    return {
        f"{split}/{name}": Part(array, np.sort(rows))
        for split, rows in cuts.items()
        if len(rows)
        for name, array in arrays.items()
    }


def _order(n: int) -> Array:
    return np.random.default_rng(0).permutation(n)


def check_length(arrays: Mapping[str, Array], where: str) -> int:
    """Errors: CompressionError `invalid_dataset` where they have not as many rows as each other."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise _invalid(f"{where}: arrays differ in their number of samples: {lengths}")
    return max(lengths.values(), default=0)


def write(parts: Mapping[str, Part], into: Path) -> None:
    """Under names `split/name`, streaming."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as target:
        for name, part in parts.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            large = part.nbytes > 1 << 31
            at = target.start_dir + 30 + len(info.filename.encode()) + (20 if large else 0)
            padding = -(at + 4) % _ALIGNMENT
            info.extra = _PADDING_ID.to_bytes(2, "little") + padding.to_bytes(2, "little") + bytes(padding)
            with target.open(info, "w", force_zip64=large) as member:
                _write_part(member, part)


def _write_part(member: IO[bytes], part: Part) -> None:
    descr = npy.dtype_to_descr(part.array.dtype)
    npy.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": part.shape})
    n = part.shape[0]
    rows = max(1, _CHUNK * n // max(1, part.nbytes))
    for start in range(0, n, rows):
        member.write(part.chunk(start, start + rows).data)


def _invalid(why: str) -> CompressionError:
    return CompressionError("invalid_dataset", why, ErrorKind.INPUT)


def _npy(why: str) -> CompressionError:
    return CompressionError("invalid_npy", why)
