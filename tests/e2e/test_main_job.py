import numpy as np
import onnxruntime as ort
import pytest

from tests.compression import networks
from tests.programs import eventually
from tests.service import Service, images

STEPS = [{"technique": "graph_optimization"}, {"technique": "static_quantization", "keep": "none"}]
pytestmark = pytest.mark.parametrize("service", ["embedded", "full"], indirect=True)


def test_upload_compress_prove_download(service: Service) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images())
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


def test_the_same_work_is_not_done_twice(service: Service) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images())
    first = service.finished(service.submit(model, data, *STEPS))
    again = service.finished(service.submit(model, data, *STEPS))
    anew = service.finished(service.submit(model, data, *STEPS, cache="off"))

    hits = [[step["cache_hit"] for step in service.steps(job)] for job in (again, anew)]
    assert hits == [[True, True], [False, False]]
    digests = {job["artifacts"][0]["sha256"] for job in (first, again, anew)}
    assert len(digests) == 1  # and what is done again gives the same bytes


def test_nothing_is_left_behind(service: Service) -> None:
    service.dataset(images(seed=3))
    eventually(lambda: not list((service.settings.data_dir / "work").glob("worker-*/*")))
