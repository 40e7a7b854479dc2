"""Steps that train: they outlive their worker, stop when told to, and give the same bytes all the same."""

import signal
import time

import pytest
from sqlalchemy import select

from app.adapters.tables import steps
from tests.compression import networks
from tests.e2e.test_failures import children, one_worker, types
from tests.programs import eventually
from tests.service import Json, Service, images

__all__ = ["one_worker"]
STEPS = [
    {"technique": "finetune", "training": {"epochs": 300, "batch_size": 8, "precision": "float32"}},
    {"technique": "static_quantization", "keep": "none"},  # by what is measured, bytes may differ
]
BETWEEN_CHECKPOINTS = 10.5  # seconds


@pytest.fixture(scope="module")
def cnn(service: Service) -> Json:
    return service.model(networks.cnn().SerializeToString())


@pytest.fixture(scope="module")
def data(service: Service) -> Json:
    return service.dataset(images())


@pytest.fixture(scope="module")
def undisturbed(service: Service, cnn: Json, data: Json) -> Json:
    return service.finished(service.submit(cnn, data, *STEPS, cache="off"), 300)


def in_mid_training(service: Service, job: Json) -> None:
    """Waits for a checkpoint that is not that of the beginning; its time comes while the child is stopped."""
    service.reached(job, "job.step.checkpointed")
    (child,) = children(service)
    child.suspend()
    time.sleep(BETWEEN_CHECKPOINTS)
    child.resume()
    eventually(lambda: types(service, job).count("job.step.checkpointed") == 2)


def digests(job: Json) -> list[str]:
    assert job["state"] == "succeeded", job["error"]
    return [artifact["sha256"] for artifact in job["artifacts"]]


def said(service: Service, job: Json) -> list[str]:
    return [event["data"].get("message", "") for event in service.events(job)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", ["embedded", pytest.param("full", marks=pytest.mark.slow)], indirect=True)
def test_killed_in_mid_training_another_worker_goes_on(
    service: Service, cnn: Json, data: Json, undisturbed: Json
) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    in_mid_training(service, job)
    service.workers[-1].kill()
    service.start_worker()

    job = service.finished(job, 300)

    assert digests(job) == digests(undisturbed)
    assert types(service, job).count("job.started") == 2
    assert "going on from the checkpoint of the earlier attempt" in said(service, job)


def test_told_to_leave_in_mid_training_a_worker_gives_back_what_it_had(
    service: Service, cnn: Json, data: Json, undisturbed: Json
) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    in_mid_training(service, job)
    service.workers[-1].send_signal(signal.SIGTERM)
    assert service.workers[-1].wait(20) == 0
    service.start_worker()

    job = service.finished(job, 300)

    assert digests(job) == digests(undisturbed)
    assert job["attempts"] == 1
    assert "going on from the checkpoint of the earlier attempt" in said(service, job)


def test_a_checkpoint_whose_bytes_are_lost_costs_time_only(
    service: Service, cnn: Json, data: Json, undisturbed: Json
) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    service.reached(job, "job.step.checkpointed")
    service.workers[-1].kill()
    with service.services.database.read() as connection:
        query = select(steps.c.checkpoint_sha256).where(steps.c.job_id == job["id"], steps.c.index == 0)
        sha256 = connection.execute(query).scalar_one()
    (service.settings.data_dir / "blobs" / sha256[:2] / sha256).write_bytes(b"other")
    service.start_worker()

    job = service.finished(job, 300)

    assert digests(job) == digests(undisturbed)
    assert "the checkpoint of the earlier attempt is lost: this step starts afresh" in said(service, job)


def test_a_cancel_takes_effect_in_mid_training(service: Service, cnn: Json, data: Json) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    service.reached(job, "job.step.checkpointed")
    asked = time.monotonic()
    service.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()

    assert service.finished(job)["state"] == "cancelled"
    assert time.monotonic() - asked < 5
    assert not children(service)
    assert [step["state"] for step in service.steps(job)] == ["cancelled", "cancelled"]


def test_progress_tells_the_numbers_of_training(service: Service, undisturbed: Json) -> None:
    numbers = [
        event["data"]["numbers"] for event in service.events(undisturbed) if "numbers" in event["data"]
    ]
    assert {"step", "steps", "loss", "learning_rate", "samples_per_second"} <= set().union(*numbers)
