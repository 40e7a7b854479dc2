"""Checkpoints: taken from a child while it works, so that whoever goes on need not start afresh."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self

import structlog

from compression.errors import CompressionError
from workers.private import opened

_LEAVE = 3.0  # seconds an ending step waits for a checkpoint that is still being stored
_log = structlog.get_logger()


class Checkpoints:
    """Of one step. Each is copied to a file that no child can change, and given to `store`: in a thread of
    its own, one at a time, as supervision, lease and cancels must not wait for a large file or a slow store.

    One that cannot be had or stored is no error: the next will do, and without any a step starts afresh.
    """

    def __init__(self, directory: Path, limit: int, store: Callable[[Path], None]) -> None:
        self._file = directory / "checkpoint"
        self._limit = limit
        self._store = store
        self._seen: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._wait(_LEAVE)
        self._file.unlink(missing_ok=True)

    def look(self, path: Path) -> None:
        """Whether there is a new one where the child leaves them: anything may be there."""
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            status = path.lstat()
        except OSError:
            return
        if (seen := (status.st_ino, status.st_mtime_ns)) != self._seen:
            self._seen = seen
            self._take(path)

    @property
    def latest(self) -> Path | None:
        """For a second child, when the first is gone."""
        self._wait(None)
        return self._file if self._file.exists() else None

    def _wait(self, seconds: float | None) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _take(self, path: Path) -> None:
        try:
            source = opened(path, self._limit)
        except CompressionError as error:
            _log.warning("checkpoint not taken", reason=error.detail)
            return
        self._thread = threading.Thread(target=self._keep, args=(source,), name="checkpoint", daemon=True)
        self._thread.start()

    def _keep(self, source: BinaryIO) -> None:
        new = self._file.with_suffix(".new")
        try:
            with source, new.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            self._store(new.replace(self._file))
        except (CompressionError, OSError) as error:
            _log.warning("checkpoint not stored", reason=str(error))
        except Exception:  # noqa: BLE001  a bug of ours must not end the training
            _log.exception("checkpoint broke")
