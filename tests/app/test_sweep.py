from collections.abc import Iterator

import pytest
from sqlalchemy import Table, func, select, update

from app.adapters import tables
from app.adapters.blobs import Blob
from app.adapters.queue import MemoryQueue
from app.bootstrap import Services, bootstrap
from app.domain.records import JobClaim, StepOutput
from app.domain.states import InspectionState, JobState
from app.services.inspected import Registration
from app.services.orders import Order
from app.services.uploads import NewUpload
from app.settings import Settings
from compression.recipe import Recipe
from tests.app.conftest import MODEL, ONNX, sha256

RECIPE = Recipe.model_validate({"steps": [{"technique": "half_precision"}]})


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def services(settings: Settings, queue: MemoryQueue) -> Iterator[Services]:
    made = bootstrap(settings, queue)
    yield made
    made.close()


@pytest.fixture
def project(services: Services) -> str:
    return services.keys.create_project("own")


def set_all(services: Services, table: Table, **values: int) -> None:
    with services.database.write() as connection:
        connection.execute(update(table).values(**values))


def upload(services: Services, project: str, content: bytes = ONNX) -> str:
    made = services.uploads.create(project, NewUpload("net.onnx", len(content), "model"))
    receiving = services.uploads.receive(project, made.id, len(content))
    receiving.write([content])
    return receiving.finish().id


def model(services: Services, project: str) -> str:
    made = services.models.register(project, Registration(upload(services, project)))
    claim = services.models.claim(made.id, "worker")
    assert claim is not None
    services.models.ready(claim, Blob(sha256(ONNX), len(ONNX)), MODEL)
    return made.id


def submit(services: Services, project: str) -> str:
    return services.jobs.submit(project, Order(model(services, project), None, RECIPE)).id


def claim(services: Services, job_id: str) -> JobClaim:
    found = services.jobs.claim(job_id, "worker")
    assert found is not None
    return found


def test_a_lost_worker_costs_an_attempt_and_the_third_the_job(
    services: Services, queue: MemoryQueue, project: str
) -> None:
    job_id = submit(services, project)
    for attempt in (1, 2, 3):
        assert claim(services, job_id).attempts == attempt
        services.sweep.run()
        assert services.jobs.get(project, job_id).state is JobState.RUNNING
        queue.messages.clear()
        set_all(services, tables.jobs, lease_until=0)
        services.sweep.run()
        expected = [("run_job", job_id, "cpu")] if attempt < 3 else []
        assert queue.messages == expected
    job = services.jobs.get(project, job_id)
    assert (job.state, job.error and job.error["code"]) == (JobState.FAILED, "E_WORKER_LOST")


def test_attempts_count_from_the_last_completed_step(services: Services, project: str) -> None:
    job_id = submit(services, project)
    for _ in range(2):
        claim(services, job_id)
        set_all(services, tables.jobs, lease_until=0)
        services.sweep.run()
    third = claim(services, job_id)
    services.jobs.step_completed(third, 0, StepOutput(sha256(ONNX), len(ONNX), {"a": 1}, MODEL))
    set_all(services, tables.jobs, lease_until=0)
    services.sweep.run()
    again = claim(services, job_id)
    assert (again.attempts, again.done) == (2, [StepOutput(sha256(ONNX), len(ONNX), {"a": 1}, MODEL)])


def test_a_lost_cancel_is_finished(services: Services, project: str) -> None:
    job_id = submit(services, project)
    claim(services, job_id)
    services.jobs.cancel(project, job_id)
    set_all(services, tables.jobs, lease_until=0)
    services.sweep.run()
    assert services.jobs.get(project, job_id).state is JobState.CANCELLED


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(
    services: Services, queue: MemoryQueue, project: str
) -> None:
    job_id = submit(services, project)
    set_all(services, tables.jobs, message_at=0)
    services.sweep.run()
    assert queue.messages.count(("run_job", job_id, "cpu")) == 1
    queue.messages.clear()  # the broker lost everything
    set_all(services, tables.jobs, message_at=0)
    services.sweep.run()
    services.sweep.run()
    assert queue.messages == [("run_job", job_id, "cpu")]


def test_submitting_while_the_broker_is_away(services: Services, queue: MemoryQueue, project: str) -> None:
    ready = model(services, project)
    queue.away = True
    job_id = services.jobs.submit(project, Order(ready, None, RECIPE)).id
    set_all(services, tables.jobs, message_at=0)
    services.sweep.run()
    queue.away = False
    queue.messages.clear()
    services.sweep.run()
    assert queue.messages == [("run_job", job_id, "cpu")]


def test_an_inspection_that_kills_its_workers_is_given_up(
    services: Services, queue: MemoryQueue, project: str
) -> None:
    model_id = services.models.register(project, Registration(upload(services, project))).id
    for attempt in (1, 2, 3):
        assert services.models.claim(model_id, "worker") is not None
        queue.messages.clear()
        set_all(services, tables.models, lease_until=0)
        services.sweep.run()
        assert queue.messages == ([("inspect_model", model_id, "cpu")] if attempt < 3 else [])
    found = services.models.get(project, model_id)
    assert found.state is InspectionState.REJECTED
    assert found.error is not None
    assert found.error["code"] == "E_WORKER_LOST"


def test_what_nobody_names_is_removed(
    services: Services, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, dropped = ONNX, ONNX + b"dropped"
    pending = services.uploads.create(project, NewUpload("net.onnx", 9, "model"))
    model(services, project)
    services.uploads.delete(project, upload(services, project, dropped))
    stray = services.blobs.writer()
    stray.write([b"no row"])
    unnamed = stray.commit().sha256

    services.sweep.collect()
    assert all(services.blobs.stat(sha) for sha in (sha256(kept), sha256(dropped), unnamed))

    set_all(services, tables.blobs, created_at=0)
    set_all(services, tables.uploads, created_at=0)
    monkeypatch.setattr("app.services.sweep._BLOB_SECONDS", -1)
    services.sweep.collect()

    assert services.blobs.stat(sha256(kept)) is not None
    assert services.blobs.stat(sha256(dropped)) is None
    assert services.blobs.stat(unnamed) is None
    with services.database.read() as connection:
        ids = connection.execute(select(tables.uploads.c.id)).scalars().all()
        count = connection.execute(select(func.count()).select_from(tables.blobs)).scalar_one()
    assert (pending.id in ids, count) == (False, 1)


def test_deleted_models_free_their_bytes(
    services: Services, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = model(services, project)
    services.models.delete(project, model_id)
    set_all(services, tables.blobs, created_at=0)
    set_all(services, tables.uploads, created_at=0)
    monkeypatch.setattr("app.services.sweep._BLOB_SECONDS", -1)
    services.sweep.collect()
    assert services.blobs.stat(sha256(ONNX)) is not None  # the upload still names it
    with services.database.write() as connection:
        connection.execute(tables.uploads.delete())
    services.sweep.collect()
    assert services.blobs.stat(sha256(ONNX)) is None
