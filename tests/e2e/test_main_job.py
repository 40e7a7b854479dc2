import io
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from app.settings import Settings
from tests.compression import networks
from tests.service import images, serving

STEPS = [{"technique": "graph_optimization"}, {"technique": "dynamic_quantization"}]


@pytest.fixture
def service(settings: Settings, tmp_path: Path):
    with serving(settings, tmp_path / "service.log") as running:
        yield running


def test_upload_compress_prove_download(service):
    original = networks.cnn().SerializeToString()
    model, data = service.model(original), service.dataset(images())
    assert (model["state"], data["state"]) == ("ready", "ready")

    job = service.finished(service.submit(model, data, *STEPS))

    assert job["state"] == "succeeded", job["error"]
    measured = job["measurements"]
    assert measured["original"]["metric"]["n"] == 96
    assert measured["compressed"]["bytes"] == len(service.download(job))
    session = ort.InferenceSession(service.download(job), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": np.zeros((3, 1, 12, 12), np.float32)})
    assert logits.shape == (3, 10)
    assert job["environment"]["sandbox"]["level"] == "S2"
    told = [event["type"] for event in service.events(job)]
    assert told[:3] == ["job.created", "job.started", "job.step.started"]
    assert told[-2:] == ["artifact.created", "job.succeeded"]
    assert not list((service.settings.data_dir / "work").glob("worker-*/*"))
