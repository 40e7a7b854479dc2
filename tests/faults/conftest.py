"""A service under watch: what every bad input must leave alone (invariants I1-I7 of the acceptance list)."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from app.bootstrap import bootstrap
from app.services.uploads import NewUpload
from app.settings import Settings
from tests import servers
from tests.compression import networks
from tests.conftest import NewSettings
from tests.programs import eventually
from tests.service import Service, images, serving

CANARY = "canary-8d1f0c52"
_GROWTH = 64 << 20
_FORBIDDEN = (CANARY, "Traceback", "/site-packages", "workers/", "app/services")


@dataclass
class Listener:
    """Counts whoever connects."""

    socket: socket.socket
    connections: int = 0

    def count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.socket.accept()[0].close()
                self.connections += 1


@dataclass
class Watched:
    service: Service
    listener: Listener
    outside: Path
    stored: str
    """Name of the blob with the canary that another project has."""
    answers: list[httpx.Response] = field(default_factory=list)

    @property
    def url(self) -> str:
        host, port = self.listener.socket.getsockname()
        return f"http://{host}:{port}/"

    def note(self, answer: httpx.Response) -> None:
        answer.read()
        self.answers.append(answer)

    def check_answers(self) -> None:
        """I3, I5, I7: of all that was said since the last look."""
        for answer in self.answers:
            assert answer.status_code < 500, answer.text
            assert not [word for word in (*_FORBIDDEN, str(self.outside)) if word in answer.text], answer.text
            if answer.is_error:
                assert answer.headers["content-type"] == "application/problem+json"
                assert {"type", "title", "status", "detail", "code"} <= answer.json().keys()
        self.answers.clear()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, new_settings: NewSettings) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(servers.valkey())
        settings = new_settings("embedded", directory / "data", broker.url)
        limits = {"job_memory_bytes": 512 << 20, "s3_secret_key": CANARY}
        settings = type(settings)(**{k: getattr(settings, k) for k in settings.model_fields_set} | limits)
        (settings.data_dir / "secret").write_text(CANARY)
        (settings.data_dir / "secret").chmod(0o600)
        stored = _other_tenants_blob(settings)
        service = stack.enter_context(serving(settings, directory / "service.log"))
        listener = Listener(stack.enter_context(socket.create_server(("127.0.0.1", 0))))
        threading.Thread(target=listener.count, daemon=True).start()
        watch = Watched(service, listener, directory, stored)
        service.client.event_hooks["response"].append(watch.note)
        _good_job(service)
        before = psutil.Process(service.api.pid).memory_info().rss
        yield watch
        _check_service(watch, before)
        listener.socket.shutdown(socket.SHUT_RDWR)


def _check_service(watch: Watched, memory: int) -> None:
    service = watch.service
    assert service.api.poll() is None  # I1
    assert service.workers[0].poll() is None
    _good_job(service)
    assert psutil.Process(service.api.pid).memory_info().rss - memory < _GROWTH  # I2
    assert CANARY not in service.log.read_text(errors="replace")  # I3
    assert sorted(p.name for p in watch.outside.iterdir()) == ["data", "service.log"]
    holders = [
        p.name
        for p in service.settings.data_dir.rglob("*")
        if p.is_file() and CANARY.encode() in p.read_bytes()
    ]
    assert sorted(holders) == sorted(["secret", watch.stored])
    assert not Path("/tmp/pare-pwned").exists()  # noqa: S108  what the hostile files try to make
    assert watch.listener.connections == 0  # I4
    eventually(lambda: not list((service.settings.data_dir / "work").glob("worker-*/*")))  # I6
    assert not list((service.settings.data_dir / "blobs" / ".part").iterdir())


def _other_tenants_blob(settings: Settings) -> str:
    services = bootstrap(settings)
    try:
        other = services.keys.create_project("owner of the canary")
        announced = NewUpload("canary.onnx", len(CANARY), "model")
        receiving = services.uploads.receive(other, services.uploads.create(other, announced).id, len(CANARY))
        receiving.write([CANARY.encode()])
        return str(receiving.finish().sha256)
    finally:
        services.close()


def _good_job(service: Service) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images())
    job = service.finished(service.submit(model, data, {"technique": "graph_optimization"}, cache="off"))
    assert job["state"] == "succeeded", job["error"]
