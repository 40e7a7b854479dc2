"""All of Pare on one machine, supervised: a broker unless one is given, the API, a worker."""

import contextlib
import fcntl
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from app import tether
from app.adapters.logs import configure
from app.bootstrap import bootstrap, migrate
from app.settings import Settings
from app.supervisor import Program, Supervisor
from app.valkey import Valkey

ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
WORKER = [sys.executable, "-P", "-m", "workers"]
_START = 30.0


def api_command(settings: Settings) -> list[str]:
    options = ["--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", "5"]
    options += ["--http", "app.api.lending:LendingProtocol"]
    quiet = ["--no-access-log", "--no-server-header", "--log-level", "warning"]
    return [sys.executable, "-P", "-m", "uvicorn", "app.main:app", *options, *quiet]


def port_is_free(settings: Settings) -> bool:
    """Says so if it is not."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            place = f"{settings.host}:{settings.port}"
            _say(f"Cannot listen on {place}: {error.strerror}. Choose another port: PARE_PORT=8001")
            return False
    return True


def serve(settings: Settings) -> int:
    """Until SIGINT or SIGTERM."""
    configure(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(settings.data_dir) as alone, Supervisor().running() as supervisor:
        if not alone or not port_is_free(settings):
            return 1
        environment = {**os.environ, **ENVIRONMENT}
        if "redis_url" not in settings.model_fields_set:
            broker = Valkey(settings.data_dir.absolute() / "valkey")
            environment["PARE_REDIS_URL"] = broker.url
            supervisor.start(Program("valkey", broker.start, 5))
        migrate(settings)
        message = _key(settings)
        supervisor.start(
            Program("api", partial(tether.start, api_command(settings), env=environment), 10),
            Program("worker", partial(tether.start, WORKER, env=environment), 25),
        )
        _announce(settings, supervisor, message)
        supervisor.tend()
    return 0


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[bool]:
    """Whether no other service has this directory; it stays ours inside."""
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"Another service runs on {data_dir.absolute()}. Choose another directory: PARE_DATA_DIR")
            yield False
        else:
            yield True


def _key(settings: Settings) -> str:
    """Makes the API key at the first start; what is to be said of it."""
    place = settings.data_dir.absolute() / "api-key"
    if place.exists():
        return f"API key: in {place}"
    services = bootstrap(settings)
    try:
        if services.keys.any():
            return "API key: one made before; this directory holds none"
        key = services.keys.create(services.keys.project(), "first")
    finally:
        services.close()
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return f"API key: {key}\n         shown this once, kept in {place}"


def _announce(settings: Settings, supervisor: Supervisor, message: str) -> None:
    """Once the API answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    url = f"http://{host}:{settings.port}"
    deadline = time.monotonic() + _START
    while not supervisor.leaving and time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{url}/healthz", timeout=2),  # noqa: S310  our own address
        ):
            _say(f"Pare:    {url}/docs (Swagger UI)\n{message}")
            return
        time.sleep(0.05)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
