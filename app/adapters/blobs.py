"""Where bytes live: content-addressed, written whole or not at all."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.domain.errors import Invalid

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A blob found in the store; `age` in seconds since it was last written, by the store's clock."""

    sha256: str
    age: float


class BlobWriter(Protocol):
    """Bytes of unknown digest on their way in. After `commit` or `abort` nothing temporary is left."""

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Errors: StorageFull, BlobsUnavailable."""

    def commit(self, sha256: str | None = None) -> Blob:
        """Durable when it returns. Errors: Invalid `checksum_mismatch` if the bytes are not those of
        `sha256`.
        """

    def abort(self) -> None: ...


class BlobStore(Protocol):
    def put_file(self, path: Path) -> Blob: ...

    def writer(self) -> BlobWriter: ...

    def fetch(self, sha256: str, into: Path) -> None:
        """Writes the bytes to `into`, checked. Errors: BlobMissing, Invalid `checksum_mismatch`."""

    def local_path(self, sha256: str) -> Path | None:
        """The file itself if the store is a directory of this machine; read only."""

    def verify(self, sha256: str) -> bool:
        """Whether the bytes are those of their name. Cheap when nothing touched them since the last look."""

    def open(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes start <= i < end, in chunks. Errors: BlobMissing."""

    def url(self, sha256: str, filename: str) -> str | None:
        """A presigned download address, good for 15 minutes; None if the store has none."""

    def stat(self, sha256: str) -> Blob | None: ...

    def delete(self, sha256: str, older_than: float = 0) -> None:
        """Unless it was written again within so many seconds."""

    def old(self, seconds: float) -> Iterator[Listed]:
        """Blobs written longer ago than this; on the way, forgotten temporary files that old are removed."""

    def check(self) -> None:
        """Errors: BlobsUnavailable."""

    def close(self) -> None: ...


@contextlib.contextmanager
def aborted_on_error(writer: BlobWriter) -> Iterator[None]:
    """Nothing half-written stays behind, whatever went wrong."""
    try:
        yield
    except BaseException:
        writer.abort()
        raise


def expect(wanted: str, found: str) -> None:
    if wanted != found:
        raise Invalid("checksum_mismatch", f"The bytes have sha256 {found}, not {wanted}. Nothing was kept.")
