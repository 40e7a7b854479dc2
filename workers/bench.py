"""What every piece of work needs: services, sandbox, a directory, and whether the worker is leaving."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from app.bootstrap import Services
from app.domain.errors import LeaseLost, Unavailable
from compression.errors import CompressionError, ErrorKind
from workers.operations import Limits
from workers.private import remove
from workers.sandbox import Sandbox

T = TypeVar("T")
_PATIENCE = 600.0  # seconds a result waits for a database or store that is away
_log = structlog.get_logger()


class Stop(Exception):
    """The work is to end now, without a verdict on it."""


class Drained(Stop):
    """The worker is leaving; somebody else goes on."""


class Cancelled(Stop):
    """The client asked for it."""


class Lost(Stop):
    """Somebody else holds the lease, or the row is over: nothing this worker does counts any more."""


@dataclass(frozen=True)
class Bench:
    services: Services
    sandbox: Sandbox
    worker_id: str
    directory: Path
    environment: dict[str, Any]
    threads: int
    queues: Sequence[str] = ()
    """That it takes messages from."""
    draining: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def desk(self) -> Iterator["Desk"]:
        """A directory for one piece of work, gone afterwards."""
        directory = Path(tempfile.mkdtemp(dir=self.directory, prefix="work-"))
        try:
            yield Desk(self, directory)
        finally:
            remove(directory)

    def limits(self, seconds: float) -> Limits:
        settings = self.services.settings
        return Limits(
            memory_bytes=settings.job_memory_bytes,
            disk_bytes=2 * max(settings.max_model_bytes, settings.max_dataset_bytes),
            seconds=seconds,
            threads=self.threads,
        )

    def insist(self, act: Callable[[], T]) -> T:
        """What was computed waits for a database or store that is away.

        Errors: Lost, Drained, what `act` raises.
        """
        deadline = time.monotonic() + _PATIENCE
        pause = 0.2
        while True:
            try:
                return act()
            except LeaseLost as error:
                raise Lost from error
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise
                _log.warning("waiting", reason=error.code)
            if self.draining.wait(pause):
                raise Drained
            pause = min(pause * 2, 5.0)


Work = Callable[[Bench, str], None]
"""What a task does with the id of its message."""


@dataclass(frozen=True)
class Desk:
    """The files of one piece of work, by digest."""

    bench: Bench
    directory: Path

    def file(self, sha256: str) -> Path:
        """The blob as a local file whose bytes were checked. Errors: CompressionError, as Bench.insist."""
        held = self.directory / sha256
        if held.exists():
            return held
        blobs = self.bench.services.blobs
        local = self.bench.insist(lambda: blobs.local_path(sha256))
        if local is None:
            self.bench.insist(lambda: blobs.fetch(sha256, held))
            return held
        if not blobs.verify(sha256):
            raise CompressionError(
                "blob_corrupt", "The stored bytes are not those of their name.", ErrorKind.INTERNAL
            )
        return local

    def keep(self, path: Path) -> tuple[str, int]:
        """Stores a file and keeps it at hand; its digest and size."""
        blob = self.bench.insist(lambda: self.bench.services.blobs.put_file(path))
        path.rename(self.directory / blob.sha256)
        return blob.sha256, blob.bytes
