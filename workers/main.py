"""The worker process: first the sandbox, then the settings with their secrets, then Celery."""

import contextlib
import fcntl
import os
import platform
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import structlog
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down

from app.adapters.logs import configure
from app.bootstrap import Services, bootstrap
from app.domain.errors import Unavailable
from app.services.workers import Announcement
from app.settings import Settings
from compression.errors import CompressionError, ErrorKind
from workers import celery_app, hardware, tasks
from workers.bench import Bench
from workers.private import remove
from workers.sandbox import Sandbox

_BEAT = 10.0
_SWEEP = 15.0
_log = structlog.get_logger()


def main() -> int:
    """Errors: CompressionError E_SANDBOX."""
    sandbox = Sandbox()
    try:
        settings = Settings()
        configure(settings)
        services = bootstrap(settings)
        with _directory(settings.data_dir / "work") as directory:
            return _work(sandbox, services, directory)
    finally:
        sandbox.stop()


def _work(sandbox: Sandbox, services: Services, directory: Path) -> int:
    settings = services.settings
    isolation = sandbox.examine(directory)
    if isolation.level < settings.sandbox_floor:
        detail = f"isolation is {isolation.level} only; PARE_SANDBOX_FLOOR={isolation.level} accepts that"
        raise CompressionError("E_SANDBOX", detail, ErrorKind.INTERNAL)
    announced = Announcement(
        queues=hardware.queues(settings.worker_queues),
        concurrency=settings.worker_concurrency,
        hardware=hardware.describe(),
        versions=hardware.packages(),
        sandbox=isolation.level,
    )
    worker_id = _register(services, announced)
    environment = {
        "worker": worker_id,
        "hardware": announced.hardware,
        "versions": hardware.versions(),
        "sandbox": asdict(isolation),
    }
    threads = max(1, hardware.usable_cores() // settings.worker_concurrency)
    bench = Bench(services, sandbox, worker_id, directory, environment, threads, announced.queues)
    with _maintained(bench, announced):
        return _consume(bench)


def _consume(bench: Bench) -> int:
    """Until SIGTERM or SIGINT. Celery's own start-up talk with other workers is left out: nobody reads it."""

    def drain(**_: object) -> None:
        bench.draining.set()

    def own_logging(**_: object) -> None:
        """A receiver, so that Celery leaves logging alone."""

    worker_shutting_down.connect(drain)
    setup_logging.connect(own_logging)
    app = celery_app.make(bench.services.settings, bench.queues)
    tasks.register(app, bench)
    name = f"{bench.worker_id}@{platform.node()}"
    warnings.filterwarnings("ignore", category=SecurityWarning)  # as root: what users send runs as nobody
    quiet = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True, "quiet": True}
    worker = app.Worker(hostname=name, **quiet)
    worker.start()
    return int(worker.exitcode or 0)


def _register(services: Services, announced: Announcement) -> str:
    """Waits for a database that is not there yet."""
    while True:
        try:
            return services.workers.register(announced)
        except Unavailable as error:
            _log.warning("waiting", reason=error.code)
            time.sleep(1)


@contextlib.contextmanager
def _maintained(bench: Bench, announced: Announcement) -> Iterator[None]:
    """Beside the work: this worker's sign of life, and the sweep."""
    thread = threading.Thread(target=_maintain, args=(bench, announced), name="maintenance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        bench.draining.set()
        thread.join(5)
        with contextlib.suppress(CompressionError):
            bench.services.workers.gone(bench.worker_id)
        bench.services.close()


def _maintain(bench: Bench, announced: Announcement) -> None:
    workers, lease = bench.services.workers, bench.services.settings.lease_seconds
    current = bench.worker_id

    def beat() -> None:
        nonlocal current
        if not workers.heartbeat(current):
            current = workers.register(announced)

    due = {beat: 0.0, bench.services.sweep.run: 0.0}
    every = {beat: min(_BEAT, lease / 4), bench.services.sweep.run: min(_SWEEP, lease / 4)}
    while not bench.draining.wait(0.5):
        for act, moment in due.items():
            if time.monotonic() >= moment:
                due[act] = time.monotonic() + every[act]
                _try(act)


def _try(act: Callable[[], object]) -> None:
    try:
        act()
    except CompressionError as error:
        _log.warning("maintenance waits", reason=error.code)
    except Exception:  # noqa: BLE001  the next round may succeed
        _log.exception("maintenance broke")


@contextlib.contextmanager
def _directory(parent: Path) -> Iterator[Path]:
    """This process's own. Those of dead workers, told by their lock, are removed."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in parent.glob("worker-*"):
        with contextlib.suppress(OSError), _locked(left):
            remove(left)
    own = Path(tempfile.mkdtemp(dir=parent, prefix="worker-"))
    with _locked(own):
        try:
            yield own
        finally:
            remove(own)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Errors: OSError if another process holds it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
