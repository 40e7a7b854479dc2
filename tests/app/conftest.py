"""The API as a real server in a thread, on real databases and stores; the services play the worker's part."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from app.adapters.blobs import Blob
from app.api.lending import LendingProtocol
from app.bootstrap import Services
from app.domain.records import JobClaim, NewArtifact
from app.main import create_app
from app.valkey import free_port
from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, TensorSpec
from compression.measurement import Measurement, Measurements, Ratio
from compression.outcome import Outcome, Status

Json = dict[str, Any]
ONNX = b"\x08\x07\x12\x04test" + bytes(range(256)) * 32
MODEL = ModelInspection(
    format="onnx",
    opset=20,
    ir_version=10,
    producer="tests",
    inputs=(TensorSpec(name="image", dtype="float32", shape=("batch", 1, 4, 4)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 10)),),
    operators={"Conv": 1},
    nodes=1,
    params=9,
    macs=144,
    bytes=len(ONNX),
    traits=frozenset(),
)
ARRAYS = {"calibration": (8, 1, 4, 4), "test": (16, 1, 4, 4)}
DATA = DatasetInspection(
    format="npz",
    arrays=tuple(ArraySpec(name="image", split=s, dtype="uint8", shape=shape) for s, shape in ARRAYS.items()),
    splits={split: shape[0] for split, shape in ARRAYS.items()},
    labelled=False,
    bytes=384,
)
_MEASURED = Measurement(
    bytes=8200, bytes_zstd=800, params=9, nonzero_params=9, macs=144, peak_activation_bytes=640
)
MEASUREMENTS = Measurements(
    original=_MEASURED, compressed=_MEASURED, ratios={"bytes": Ratio(value=2.0, ci95=(1.9, 2.1))}
)
STEPS = [{"technique": "half_precision"}]


@dataclass
class Api:
    client: httpx.Client
    other: httpx.Client
    """With the key of another project."""
    services: Services
    project: str

    def upload(self, content: bytes = ONNX, filename: str = "net.onnx", purpose: str = "model") -> Json:
        body = {"filename": filename, "bytes": len(content), "purpose": purpose}
        made = self.client.post("/v1/uploads", json=body).raise_for_status().json()
        return dict(self.client.put(made["content_url"], content=content).raise_for_status().json())

    def model(self) -> Json:
        """Ready: what a worker would have found is written as it would write it."""
        made = (
            self.client.post("/v1/models", json={"upload_id": self.upload()["id"]}).raise_for_status().json()
        )
        claim = self.services.models.claim(made["id"], "worker")
        assert claim is not None
        self.services.models.ready(claim, Blob(claim.source_sha256, len(ONNX)), MODEL)
        return dict(self.client.get(f"/v1/models/{made['id']}").json())

    def dataset(self, inspection: DatasetInspection = DATA) -> Json:
        upload = self.upload(b"PK\x03\x04" + bytes(100), "data.npz", "dataset")
        made = self.client.post("/v1/datasets", json={"upload_id": upload["id"]}).raise_for_status().json()
        claim = self.services.datasets.claim(made["id"], "worker")
        assert claim is not None
        self.services.datasets.ready(claim, Blob(claim.source_sha256, 104), inspection)
        return dict(self.client.get(f"/v1/datasets/{made['id']}").json())

    def job(self, **more: Any) -> Json:
        body = {"model_id": self.model()["id"], "recipe": {"steps": STEPS}, **more}
        return dict(self.client.post("/v1/jobs", json=body).raise_for_status().json())

    def claim(self, job: Json) -> JobClaim:
        claim = self.services.jobs.claim(job["id"], "worker")
        assert claim is not None
        return claim

    def finish(self, job: Json, path: Path) -> Json:
        """Succeeds with one artifact, the bytes of `path`, and a bundle of sorts."""
        claim = self.claim(job)
        blob = self.services.blobs.put_file(path)
        zipped = path.with_suffix(".zip")
        zipped.write_bytes(b"PK..")
        bundle = self.services.blobs.put_file(zipped)
        made = NewArtifact(
            "onnx",
            "net-int8.onnx",
            blob.sha256,
            blob.bytes,
            bundle_sha256=bundle.sha256,
            bundle_bytes=bundle.bytes,
        )
        self.services.jobs.succeed(claim, [made], [MEASUREMENTS], Outcome(status=Status.MET), {"seed": 0})
        return dict(self.client.get(f"/v1/jobs/{job['id']}").json())


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Signals are the test runner's."""


@pytest.fixture
def api(services: Services) -> Iterator[Api]:
    project, elsewhere = services.keys.create_project("own"), services.keys.create_project("other")
    keys = [services.keys.create(owner, "tests") for owner in (project, elsewhere)]
    port = free_port()
    config = uvicorn.Config(
        create_app(services=services), port=port, log_level="error", access_log=False, http=LendingProtocol
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    own, other = (_client(port, key) for key in keys)
    with own, other:
        yield Api(own, other, services, project)
    server.should_exit = True
    thread.join(20)


def _client(port: int, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, having checked that it is a whole problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "errors",
        "suggestions",
        "retryable",
        "request_id",
    }
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return body["status"], body["code"]
