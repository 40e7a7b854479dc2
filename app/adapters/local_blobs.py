"""Blobs in a directory: `ab/abcdef…`, temporary files in `.part/` beside them."""

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app.adapters.blobs import CHUNK, Blob, Listed, aborted_on_error, expect
from app.domain.errors import BlobMissing, BlobsUnavailable, StorageFull

_PIECE = 64 << 10
_WRITE_BACK = 32 << 20
_PIECES = 512  # below what every kernel takes in one call


class LocalBlobs:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._part = root / ".part"
        self._part.mkdir(parents=True, exist_ok=True)
        self._verified: dict[str, tuple[int, int, int]] = {}

    def put_file(self, path: Path) -> Blob:
        writer = self.writer()
        with aborted_on_error(writer), path.open("rb") as file:
            while chunk := file.read(CHUNK):
                writer.write([chunk])
            return writer.commit()

    def writer(self) -> "LocalWriter":
        return LocalWriter(self._part, self._path)

    def fetch(self, sha256: str, into: Path) -> None:
        digest = hashlib.sha256()
        with into.open("wb") as file:
            for chunk in self.open(sha256, 0, self._stat(sha256).st_size):
                digest.update(chunk)
                file.write(chunk)
        expect(sha256, digest.hexdigest())

    def local_path(self, sha256: str) -> Path | None:
        self._stat(sha256)
        return self._path(sha256)

    def verify(self, sha256: str) -> bool:
        found = self._stat(sha256)
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._verified.get(sha256) == identity:
            return True
        with self._path(sha256).open("rb") as file:
            good = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        if good:
            self._verified[sha256] = identity
        return good

    def open(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        self._stat(sha256)
        with self._path(sha256).open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(CHUNK, end - start))):
                start += len(chunk)
                yield chunk

    def url(self, sha256: str, filename: str) -> str | None:  # noqa: ARG002
        return None

    def stat(self, sha256: str) -> Blob | None:
        try:
            return Blob(sha256, self._stat(sha256).st_size)
        except BlobMissing:
            return None

    def delete(self, sha256: str, older_than: float = 0) -> None:
        """Moved aside before its age is looked at: bytes written again at this moment are not lost."""
        self._verified.pop(sha256, None)
        aside = self._part / f"{sha256}.trash"
        with contextlib.suppress(FileNotFoundError):
            self._path(sha256).rename(aside)
            if _age(aside) >= older_than:
                aside.unlink()
            else:
                aside.rename(self._path(sha256))

    def old(self, seconds: float) -> Iterator[Listed]:
        for part in self._part.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if _age(part) > seconds:
                    part.unlink()
        for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(FileNotFoundError):
                if _age(path) > seconds:
                    yield Listed(path.name, _age(path))

    def check(self) -> None:
        if not os.access(self._part, os.W_OK):
            raise BlobsUnavailable

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _stat(self, sha256: str) -> os.stat_result:
        try:
            return self._path(sha256).stat()
        except FileNotFoundError:
            raise BlobMissing(sha256) from None


class LocalWriter:
    """Hash and write in the caller's thread."""

    def __init__(self, part: Path, place: Callable[[str], Path]) -> None:
        with _full_disk():
            self._fd, name = tempfile.mkstemp(suffix=".part", dir=part)
        self._name = Path(name)
        self._place = place
        self._digest = hashlib.sha256()
        self._bytes = self._sent = 0

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        with _full_disk():
            whole = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._digest.update(whole)
            _write_all(self._fd, whole)
            self._bytes += len(whole)
            if self._bytes - self._sent >= _WRITE_BACK:
                self._write_back()

    def _write_back(self) -> None:
        """Linux starts to write what is dirty and does not wait: little is left for the sync at the end."""
        if sys.platform == "linux":
            os.posix_fadvise(self._fd, self._sent, self._bytes - self._sent, os.POSIX_FADV_DONTNEED)
        self._sent = self._bytes

    def commit(self, sha256: str | None = None) -> Blob:
        found = self._digest.hexdigest()
        with aborted_on_error(self), _full_disk():
            expect(sha256 or found, found)
            os.fchmod(self._fd, 0o600)
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            target = self._place(found)
            target.parent.mkdir(exist_ok=True)
            self._name.replace(target)
            _sync_directory(target.parent)
            _sync_directory(target.parent.parent)
        return Blob(found, self._bytes)

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._name.unlink(missing_ok=True)


def _write_all(fd: int, chunk: bytes | memoryview) -> None:
    """One call, in pieces: measured, ext4 takes a piece of megabytes at a tenth of the speed."""
    view = memoryview(chunk)
    while view:
        end = min(len(view), _PIECE * _PIECES)
        view = view[os.writev(fd, [view[i : min(i + _PIECE, end)] for i in range(0, end, _PIECE)]) :]


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFull from error
        raise


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime
