"""Archives from strangers: every member is checked by name, kind and size, and written to a fresh file."""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import zstandard

from compression.errors import CompressionError
from compression.validation import paths
from compression.validation.limits import (
    MAX_ARCHIVE_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_MEMBERS,
    MAX_RATIO,
    RATIO_FROM,
)

_CHUNK = 1 << 20
_PROGRAMS = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".so", ".dll", ".dylib", ".py", ".pyc"})
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".npz", ".bz2", ".xz", ".zst", ".7z"})
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)
_LOCAL_HEADER = 30


class Budget(NamedTuple):
    """How much may be decoded, and what a refusal is called."""

    stored: int
    most: int = MAX_ARCHIVE_BYTES
    ratio: int = MAX_RATIO
    ratio_code: str = "archive_ratio"
    members: int = MAX_MEMBERS

    def check(self, decoded: int) -> None:
        """Errors: CompressionError `limit_decoded_bytes` or `ratio_code`."""
        if decoded > self.most:
            raise CompressionError("limit_decoded_bytes", f"unpacked it takes more than {self.most} bytes")
        if decoded > max(RATIO_FROM, self.stored * self.ratio):
            raise CompressionError(
                self.ratio_code, f"{self.stored} bytes unpack to more than {self.ratio} times as many"
            )


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_archive", why)


@contextmanager
def reading() -> Iterator[None]:
    """Errors: CompressionError `invalid_archive`."""
    try:
        yield
    except (*_BROKEN, tarfile.TarError) as error:
        raise invalid(f"the archive is damaged or not of a plain kind: {type(error).__name__}") from error


def check_member(name: str) -> None:
    """Errors: CompressionError `path_refused`, `member_refused`."""
    if not paths.is_plain(name):
        raise CompressionError("path_refused", f"member name {name[:80]!r} is no plain relative path")
    if _suffix(name) in _PROGRAMS | _ARCHIVES:
        raise CompressionError(
            "member_refused", f"member {name[:80]!r} is a program or an archive, which is not opened"
        )


def _suffix(name: str) -> str:
    """As Path has it, but a tenth as dear: an archive may have 200,000 members."""
    stem, dot, ending = name.rpartition("/")[2].lower().rpartition(".")
    return dot + ending if stem else ""


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Errors: CompressionError `invalid_archive`, also for what is read inside the block."""
    _check_directory_size(path)
    with reading(), zipfile.ZipFile(path) as archive:
        yield archive


def kind(head: bytes) -> Literal["zip", "tar"] | None:
    """Of an archive, told by its first bytes."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    packed = head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    return "tar" if packed or head[257:262] == b"ustar" else None


def check_zip(path: Path) -> None:
    """Reads every member once, for its checksum.

    Errors: CompressionError `invalid_archive` and what `members` raises.
    """
    with open_zip(path) as archive:
        for info in members(archive, Budget(path.stat().st_size)):
            with archive.open(info) as source:
                while source.read(_CHUNK):
                    pass


def members(archive: zipfile.ZipFile, budget: Budget) -> list[zipfile.ZipInfo]:
    """The regular members, with sizes as declared; reading one never gives more than it declares.

    Errors: CompressionError `invalid_archive`, `path_refused`, `link_refused`, `limit_decoded_bytes`,
    `budget.ratio_code`.
    """
    infos = archive.infolist()
    if len(infos) > budget.members:
        raise invalid(f"the archive has more than {budget.members} members")
    _check_overlap(infos)
    names = [info.orig_filename for info in infos]
    if len(set(names)) != len(names):
        raise invalid("two members have the same name")
    budget.check(sum(info.file_size for info in infos))
    return [info for info in infos if _is_regular(info)]


def _is_regular(info: zipfile.ZipInfo) -> bool:
    if info.flag_bits & 0x61 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise invalid(f"member {info.filename[:80]!r} is encrypted or packed in an unusual way")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CompressionError("link_refused", f"member {info.filename[:80]!r} is a link or a device")
    if info.filename != info.orig_filename or not paths.is_plain(info.orig_filename.removesuffix("/")):
        raise CompressionError(
            "path_refused", f"member name {info.orig_filename[:80]!r} is no plain relative path"
        )
    return not info.is_dir()


def _check_overlap(infos: Iterable[zipfile.ZipInfo]) -> None:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise invalid("members share the same bytes")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def _check_directory_size(path: Path) -> None:
    """The list of members is read as a whole by the parser: its size is checked before."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - 128))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise invalid("the archive has no directory; it may be cut off")
    at64 = tail.rfind(b"PK\x06\x06", 0, at)
    declared = int.from_bytes(tail[at + 12 : at + 16], "little")
    if at64 >= 0:
        declared = int.from_bytes(tail[at64 + 40 : at64 + 48], "little")
    if declared > MAX_DIRECTORY_BYTES:
        raise invalid("the directory of the archive is too large")


class Counted:
    """A stream that refuses to go on once it has given more than the budget."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, budget: Budget) -> None:
        self.stream, self.budget, self.given = stream, budget, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        self.budget.check(self.given)
        return data
