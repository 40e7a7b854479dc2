"""Parts that go away and come back: every acknowledged job ends once, with the same bytes."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from app import tether
from app.valkey import Valkey
from tests import servers
from tests.compression import networks
from tests.conftest import NewSettings
from tests.programs import eventually
from tests.service import Json, Service, images, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STEP = {"technique": "graph_optimization"}
RECOVERY = 90


class Broker(Valkey):
    process: subprocess.Popen[bytes]

    def begin(self) -> None:
        self.process = self.start()

    def lose_everything(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    server = Broker(tmp_path_factory.mktemp("broker"))
    server.begin()
    yield server
    tether.stop(server.process, 5)


@pytest.fixture
def service(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker, new_settings: NewSettings, kind: str
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("outage")
    settings = new_settings(kind, directory / "data", broker.url)
    with serving(settings.model_copy(update={"lease_seconds": 4}), directory / "service.log") as running:
        yield running


@pytest.fixture
def kind() -> str:
    return "embedded"


def queue_some(service: Service, count: int) -> list[Json]:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images())
    return [service.submit(model, data, STEP, seed=seed) for seed in range(count)]


def check_ended_once(service: Service, jobs: list[Json]) -> None:
    ended = [service.finished(job, RECOVERY) for job in jobs]
    assert [job["state"] for job in ended] == ["succeeded"] * len(jobs)
    assert len({job["artifacts"][0]["sha256"] for job in ended}) == 1
    for job in ended:
        assert len(job["artifacts"]) == 1
        assert [e["type"] for e in service.events(job)].count("job.succeeded") == 1


def test_broker_loses_everything_with_jobs_queued(service: Service, broker: Broker) -> None:
    jobs = queue_some(service, 12)
    broker.lose_everything()
    late = service.submit({"id": jobs[0]["model_id"]}, {"id": jobs[0]["dataset_id"]}, STEP)  # still 202
    time.sleep(3)
    broker.begin()
    check_ended_once(service, [*jobs, late])


def test_broker_is_flushed(service: Service, broker: Broker) -> None:
    jobs = queue_some(service, 8)
    with redis.Redis.from_url(broker.url) as client:
        client.flushall()
    check_ended_once(service, jobs)
    check_ended_once(service, queue_some(service, 1))  # and messages are routed again


def test_worker_that_was_frozen_changes_nothing_afterwards(service: Service) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images(3000))
    job = service.submit(model, data, STEP, cache="off")
    service.reached(job, "job.started")
    frozen = service.workers[0]
    frozen.send_signal(signal.SIGSTOP)
    service.start_worker()
    check_ended_once(service, [job])
    before = service.events(job)
    frozen.send_signal(signal.SIGCONT)
    time.sleep(5)
    assert service.events(job) == before
    check_ended_once(service, [service.submit(model, data, STEP, cache="off")])


@pytest.mark.parametrize("kind", ["full"])
def test_killed_worker_on_the_full_setting(service: Service) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images(3000))
    jobs = [service.submit(model, data, STEP, cache="off") for _ in range(3)]
    for job in jobs:
        service.reached(job, "job.started", RECOVERY)
        service.workers[-1].kill()
        service.start_worker()
    check_ended_once(service, jobs)


@pytest.mark.parametrize("kind", ["full"])
def test_database_restarts_while_a_job_runs(service: Service, postgres_server: servers.Postgres) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images(3000))
    jobs = [service.submit(model, data, STEP, cache="off") for _ in range(2)]
    service.reached(jobs[0], "job.started")
    postgres_server.stop(signal.SIGQUIT)
    time.sleep(3)
    postgres_server.start()
    eventually(lambda: _ready(service), RECOVERY)
    check_ended_once(service, jobs)


def _ready(service: Service) -> bool:
    with contextlib.suppress(Exception):
        return service.client.get("/readyz").is_success
    return False
