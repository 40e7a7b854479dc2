"""Zips and tars alike: names of the members, and unpacking."""

import shutil
from pathlib import Path
from typing import IO

from compression.errors import CompressionError
from compression.validation import archive, tar
from compression.validation.limits import MAX_DATASET_BYTES, MAX_IMAGES

_CHUNK = 1 << 20
_HEAD = 512


def unpack_model(path: Path, folder: Path) -> Path:
    """Unpacks a zip or tar with exactly one .onnx file into `folder`, which is made; returns the .onnx file.

    Errors: CompressionError `invalid_archive`, `path_refused`, `link_refused`, `member_refused`,
    `archive_ratio`, `limit_decoded_bytes`.
    """
    folder.mkdir(parents=True)
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with archive.open_zip(path) as source:
            infos = archive.members(source, archive.Budget(path.stat().st_size))
            for info in infos:
                archive.check_member(info.filename)
                with source.open(info) as content:
                    _write(content, folder / info.filename, info.file_size)
    else:
        for member in tar.members(path, archive.Budget(path.stat().st_size)):
            _write(member.content, folder / member.name, member.size)
    return _only_model(folder)


def _only_model(folder: Path) -> Path:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".onnx")
    if len(found) != 1:
        raise archive.invalid(
            f"the archive holds {len(found)} .onnx files; it must hold one, and the data it refers to"
        )
    return found[0]


def names(path: Path) -> list[str] | None:
    """Of the members; a packed tar is decoded for them. None where it cannot be read."""
    with path.open("rb") as file:
        is_zip = archive.kind(file.read(_HEAD)) == "zip"
    try:
        if not is_zip:
            return tar.names(path, archive.Budget(path.stat().st_size, MAX_DATASET_BYTES, members=MAX_IMAGES))
        with archive.open_zip(path) as source:
            return source.namelist() if len(source.infolist()) <= MAX_IMAGES else None
    except CompressionError:
        return None


def _write(source: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        if file.tell() != size:
            raise archive.invalid(f"member {target.name[:80]!r} is not as long as declared")
