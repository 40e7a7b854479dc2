"""Tars from strangers, read as streams: plain, gzip or Zstandard."""

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import zstandard

from compression.errors import CompressionError
from compression.validation import archive

ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_WINDOW = 128 << 20
"""Most that a Zstandard stream may ask its reader to hold."""
_HEADER = 1 << 20
_EXTENDED = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)


class Member(NamedTuple):
    name: str
    size: int
    content: IO[bytes]
    """Readable until the next member is asked for."""


class _Info(tarfile.TarInfo):
    """Extended headers are read as a whole by the parser: their size is checked before."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > _HEADER:
            raise tarfile.ReadError("a header is too large")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


def members(path: Path, budget: archive.Budget) -> Iterator[Member]:
    """The regular members, by plain relative names, each once.

    Errors: CompressionError `invalid_archive`, `link_refused`, `member_refused`, `path_refused`,
    `limit_decoded_bytes`, `budget.ratio_code`.
    """
    seen: set[str] = set()
    with _opened(path, budget) as source:
        while info := source.next():
            source.members = []  # type: ignore[attr-defined]  # it keeps them all
            if info.isdir():
                continue
            name = info.name.removeprefix("./")
            _check(info, name)
            if name in seen or len(seen) >= budget.members:
                why = f"two members have the same name, or there are more than {budget.members}"
                raise archive.invalid(why)
            seen.add(name)
            content = source.extractfile(info)
            if content is None:
                raise archive.invalid(f"member {name[:80]!r} cannot be read")
            yield Member(name, info.size, content)


def names(path: Path, budget: archive.Budget) -> list[str]:
    """Errors: as `members`."""
    return [member.name for member in members(path, budget)]


@contextmanager
def _opened(path: Path, budget: archive.Budget) -> Iterator[tarfile.TarFile]:
    with archive.reading(), path.open("rb") as raw:
        stream = archive.Counted(decoded(raw), budget)
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Info) as source:
            yield source


def decoded(raw: IO[bytes]) -> IO[bytes]:
    """From its start; as it is where it is packed in neither way."""
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if head == ZSTD:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        return cast("IO[bytes]", reader.stream_reader(raw, read_across_frames=True))
    return raw


def _check(info: tarfile.TarInfo, name: str) -> None:
    if info.issym() or info.islnk():
        raise CompressionError("link_refused", f"member {name[:80]!r} is a link")
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.sparse is not None:
        raise CompressionError("member_refused", f"member {name[:80]!r} is no plain file")
    archive.check_member(name)
