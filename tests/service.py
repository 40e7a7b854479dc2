"""A running service, as its clients see it: API and workers as programs, spoken to over HTTP."""

import contextlib
import hashlib
import io
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app import tether
from app.bootstrap import Services, bootstrap
from app.embedded import api_command
from app.settings import Settings
from app.valkey import free_port
from tests.programs import WORKER, environment, eventually

OVER = {"succeeded", "failed", "cancelled"}
Json = dict[str, Any]


@dataclass
class Service:
    settings: Settings
    services: Services
    client: httpx.Client
    api: subprocess.Popen[bytes]
    log: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, **changed: str) -> subprocess.Popen[bytes]:
        """Returns when it has announced itself."""
        known = len(self.client.get("/v1/workers").json()["data"])
        with self.log.open("ab") as output:
            env = environment(self.settings) | changed
            self.workers.append(tether.start(WORKER, env=env, output=output.fileno()))
        eventually(lambda: len(self.client.get("/v1/workers").json()["data"]) > known)
        return self.workers[-1]

    def upload(self, content: bytes, filename: str, purpose: str) -> httpx.Response:
        body = {"filename": filename, "bytes": len(content), "purpose": purpose}
        made = self.client.post("/v1/uploads", json=body)
        if made.is_error or made.json()["state"] == "completed":
            return made
        return self.client.put(f"/v1/uploads/{made.json()['id']}/content", content=content)

    def model(self, content: bytes, filename: str = "model.onnx") -> Json:
        """As it is after its inspection."""
        return self._inspected("models", self.upload(content, filename, "model"))

    def dataset(self, content: bytes, filename: str = "data.npz", **more: Any) -> Json:
        return self._inspected("datasets", self.upload(content, filename, "dataset"), more)

    def _inspected(self, kind: str, upload: httpx.Response, more: Json | None = None) -> Json:
        body = {"upload_id": upload.raise_for_status().json()["id"], **(more or {})}
        item = self.client.post(f"/v1/{kind}", json=body).raise_for_status().json()
        while item["state"] == "processing":
            item = self.client.get(f"/v1/{kind}/{item['id']}", params={"wait": 30}).raise_for_status().json()
        return dict(item)

    def submit(self, model: Json, data: Json | None, *steps: Json, **more: Any) -> Json:
        body = {
            "model_id": model["id"],
            "dataset_id": data and data["id"],
            "recipe": {"steps": steps},
            **more,
        }
        return dict(self.client.post("/v1/jobs", json=body).raise_for_status().json())

    def job(self, identity: str, wait: int = 0) -> Json:
        return dict(self.client.get(f"/v1/jobs/{identity}", params={"wait": wait}).raise_for_status().json())

    def finished(self, job: Json, seconds: float = 90) -> Json:
        return eventually(lambda: (now := self.job(job["id"]))["state"] in OVER and now, seconds, 0.05)

    def reached(self, job: Json, event: str, seconds: float = 30) -> None:
        """Waits until the job has told of it."""
        eventually(lambda: event in [e["type"] for e in self.events(job)], seconds)

    def events(self, job: Json) -> list[Json]:
        answer = self.client.get(f"/v1/jobs/{job['id']}/events", params={"limit": 100})
        return list(answer.raise_for_status().json()["data"])

    def steps(self, job: Json) -> list[Json]:
        return list(self.client.get(f"/v1/jobs/{job['id']}/steps").raise_for_status().json()["data"])

    def download(self, job: Json) -> bytes:
        artifact = next(a for a in job["artifacts"] if a["format"] == "onnx")
        content = (
            self.client.get(f"/v1/artifacts/{artifact['id']}/content", follow_redirects=True)
            .raise_for_status()
            .content
        )
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
        return content


@contextlib.contextmanager
def serving(settings: Settings, log: Path, workers: int = 1) -> Iterator[Service]:
    settings = settings.model_copy(update={"port": free_port()})
    services = bootstrap(settings)
    key = services.keys.create(services.keys.project(), "tests")
    with log.open("ab") as output:
        api = tether.start(api_command(settings), env=environment(settings), output=output.fileno())
    url = f"http://127.0.0.1:{settings.port}"
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    service = Service(settings, services, client, api, log)
    try:
        eventually(lambda: _answers(client))
        for _ in range(workers):
            service.start_worker()
        yield service
    finally:
        client.close()
        for process in [*service.workers, api]:
            tether.stop(process, 25)
        services.close()


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/healthz").is_success
    return False


def npz(**arrays: np.ndarray) -> bytes:
    """Members `split/name`, from names with a double underscore."""
    file = io.BytesIO()
    np.savez(file, **{name.replace("__", "/"): array for name, array in arrays.items()})
    return file.getvalue()


def images(n: int = 96, size: int = 12, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        return random.normal(size=(count, 1, size, size)).astype(np.float32), random.integers(0, 10, count)

    (test, test_label), (calibration, _) = split(n), split(32)
    return npz(test__image=test, test__label=test_label, calibration__image=calibration)
