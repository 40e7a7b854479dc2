"""Members of an archive from a stranger, read from several threads at once without a lock."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from compression.errors import CompressionError
from compression.validation import archive, tar
from compression.validation.limits import MAX_DATASET_BYTES, MAX_DATASET_RATIO, MAX_IMAGE_BYTES, MAX_IMAGES

_HEADER = 30
_CHUNK = 1 << 20


class Members(NamedTuple):
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    """Errors: OSError or ValueError for a damaged member, CompressionError for one too large."""
    pieces: Callable[[str], Iterator[bytes]]
    """Of a large one. Errors: CompressionError `invalid_archive`."""

    def needed(self, name: str) -> bytes:
        """What nothing can be done without. Errors: CompressionError `invalid_archive`."""
        with archive.reading():
            return self.read(name)

    def copy(self, name: str, into: Path) -> Path:
        """Errors: CompressionError `invalid_archive`."""
        with into.open("xb") as file:
            for piece in self.pieces(name):
                file.write(piece)
        return into


@contextmanager
def opened(path: Path, scratch: Path) -> Iterator[Members]:
    """Errors: CompressionError as `archive.members`; `nested` archives and programs are `member_refused`."""
    with path.open("rb") as file:
        is_zip = archive.kind(file.read(512)) == "zip"
    with _zip(path) if is_zip else _tar(path, scratch) as members:
        for name in members.sizes:
            archive.check_member(name)
        yield members._replace(sizes={name: size for name, size in members.sizes.items() if _is_meant(name)})


def _is_meant(name: str) -> bool:
    """Archivers of desktops add files that nobody put there."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _budget(path: Path) -> archive.Budget:
    return archive.Budget(path.stat().st_size, MAX_DATASET_BYTES, MAX_DATASET_RATIO, members=MAX_IMAGES)


def _bounded(name: str, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise CompressionError("limit_decoded_bytes", f"member {name[:80]!r} takes {size} bytes")


@contextmanager
def _zip(path: Path) -> Iterator[Members]:
    with archive.open_zip(path) as source:
        infos = {info.filename: info for info in archive.members(source, _budget(path))}
    with path.open("rb") as file:

        def read(name: str) -> bytes:
            _bounded(name, infos[name].file_size)
            return _inflated(file.fileno(), infos[name])

        def pieces(name: str) -> Iterator[bytes]:
            with archive.open_zip(path) as source, source.open(infos[name]) as member:
                while piece := member.read(_CHUNK):
                    yield piece

        yield Members({name: info.file_size for name, info in infos.items()}, read, pieces)


def _inflated(file: int, info: zipfile.ZipInfo) -> bytes:
    header = os.pread(file, _HEADER, info.header_offset)
    extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    data = os.pread(file, info.compress_size, info.header_offset + _HEADER + extra)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-15).decompress(data, info.file_size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise ValueError("its checksum is wrong")
    return data


@contextmanager
def _tar(path: Path, scratch: Path) -> Iterator[Members]:
    """All members are written to one file, one after another: names of strangers make no paths."""
    places: dict[str, tuple[int, int]] = {}
    with (scratch / "members").open("xb+") as joined:
        for member in tar.members(path, _budget(path)):
            at = joined.tell()
            while piece := member.content.read(_CHUNK):
                joined.write(piece)
            places[member.name] = at, joined.tell() - at
        joined.flush()

        def read(name: str) -> bytes:
            at, size = places[name]
            _bounded(name, size)
            return os.pread(joined.fileno(), size, at)

        def pieces(name: str) -> Iterator[bytes]:
            at, size = places[name]
            for start in range(at, at + size, _CHUNK):
                yield os.pread(joined.fileno(), min(_CHUNK, at + size - start), start)

        yield Members({name: size for name, (_, size) in places.items()}, read, pieces)
