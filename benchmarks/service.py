"""A service to put load on, and the short way through its API."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from app.bootstrap import Services, bootstrap
from app.migration import migrate
from app.settings import Settings
from app.valkey import free_port
from tests import servers

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPE = {"steps": [{"technique": "graph_optimization"}]}  # the shortest there is
SERVER = str(Path(sys.executable).parent / "pare-server")


class Service(NamedTuple):
    """A running API, with what is needed to speak to it and to look behind it."""

    url: str
    key: str
    services: Services
    process: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes] | None
    environment: dict[str, str]

    @property
    def auth(self) -> tuple[str, str]:
        return "-H", f"Authorization: Bearer {self.key}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=120)

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextlib.contextmanager
def service(
    database: str = "sqlite", *, worker: bool = False, cores: Sequence[int] = ()
) -> Iterator[Service]:
    """An API on a fresh database and fresh local blobs, with a real Valkey and, if asked, a worker, or one on
    each of some cores.
    """
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pare-load-")))
        url = f"sqlite:///{home}/pare.db"
        if database == "postgresql":
            server = stack.enter_context(servers.postgres())
            server.run("CREATE DATABASE pare")
            url = server.url("pare")
        port = free_port()
        own = {"PARE_DATA_DIR": str(home), "PARE_DATABASE_URL": url, "PARE_PORT": str(port)}
        own |= {"PARE_REDIS_URL": stack.enter_context(servers.valkey()).url, "PARE_DISK_FLOOR_BYTES": "0"}
        own |= {"PARE_DISK_FLOOR_FRACTION": "0", "PARE_LOG_FORMAT": "json"}
        environment = {**os.environ, **own}
        migrate(url)
        services = bootstrap(
            Settings.model_validate(
                {name.removeprefix("PARE_").lower(): value for name, value in own.items()}
            )
        )
        stack.callback(services.database.close)
        key = services.keys.create(services.keys.project(), "load")
        api = stack.enter_context(process([SERVER, "api"], environment))
        crew = stack.enter_context(process([SERVER, "worker"], environment)) if worker else None
        for core in cores:
            pinned = stack.enter_context(process([SERVER, "worker"], environment))
            os.sched_setaffinity(pinned.pid, {core})
        made = Service(f"http://127.0.0.1:{port}", key, services, api, crew, environment)
        until(lambda: httpx.get(f"{made.url}/healthz").is_success)
        if worker or cores:
            until(lambda: httpx.get(f"{made.url}/readyz").is_success)
        yield made


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def until(ready: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if ready():
                return
        time.sleep(0.02)
    raise TimeoutError


def send_model(client: httpx.Client) -> str:
    return ready(client, "models", announce(client, EXAMPLES / "fashion_mnist_resnet.onnx", send=True))


def announce(client: httpx.Client, path: Path, *, send: bool = False) -> str:
    body = {"filename": path.with_suffix(".onnx").name, "bytes": path.stat().st_size, "purpose": "model"}
    upload = client.post("/v1/uploads", json=body).raise_for_status().json()
    if send:
        client.put(f"/v1/uploads/{upload['id']}/content", content=path.read_bytes()).raise_for_status()
    return str(upload["id"])


def ready(client: httpx.Client, kind: str, upload: str) -> str:
    item = client.post(f"/v1/{kind}", json={"upload_id": upload}).raise_for_status().json()
    while item["state"] == "processing":
        item = client.get(f"/v1/{kind}/{item['id']}?wait=30").raise_for_status().json()
    return str(item["id"])


def run_job(client: httpx.Client, model: str) -> dict[str, Any]:
    """A small job, from start to end and without the step cache."""
    body = {"model_id": model, "recipe": RECIPE, "cache": "off"}
    job: dict[str, Any] = client.post("/v1/jobs", json=body).raise_for_status().json()
    while job["state"] in {"queued", "running"}:
        job = client.get(f"/v1/jobs/{job['id']}?wait=30").raise_for_status().json()
    assert job["state"] == "succeeded", job["error"]
    return job
