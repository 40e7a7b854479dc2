"""The archives that a format of several files comes in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.formats.format import Format, Loader, Purpose, Recognises, Upload


def _zip(head: bytes, _suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _zip_by_name(head: bytes, suffix: str) -> bool:
    """Not one of the formats that are zips themselves."""
    return suffix in {".zip", ""} and _zip(head, suffix)


def _tar(head: bytes, _suffix: str) -> bool:
    return head[257:262] == b"ustar"


def _gzip(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x1f\x8b")


def _zstandard(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd")


_CONTAINERS: tuple[tuple[str, str, tuple[str, ...], Recognises], ...] = (
    ("zip", "zip", (".zip",), _zip_by_name),
    ("tar", "tar", (".tar",), _tar),
    ("tar_gz", "gzip", (".gz", ".tgz"), _gzip),
    ("tar_zst", "zstd", (".zst",), _zstandard),
)


@dataclass(frozen=True, kw_only=True)
class Archived:
    """A format in each of them; where none of the narrow ones `contains` its files, the others get it."""

    name: str
    purpose: Purpose
    title: str
    load: Loader
    contains: Callable[[Sequence[str]], bool] | None = None
    packages: tuple[str, ...] = ()
    extra: str = ""
    check: Callable[[Upload], None] | None = None

    def register(self) -> None:
        narrow = self.contains is not None
        for name, container, suffixes, recognises in _CONTAINERS:
            Format(
                f"{self.name}_{name}",
                self.purpose,
                container,
                suffixes,
                recognises if narrow or container != "zip" else _zip,
                self.load,
                title=self.title,
                packages=self.packages,
                extra=self.extra,
                contains=self.contains,
                narrow=narrow,
                check=self.check,
            ).register()
