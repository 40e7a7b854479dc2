"""What dies, comes back; what is told to stop, stops."""

import signal
import time

import psutil
import pytest

from tests.compression import networks
from tests.programs import eventually
from tests.service import Json, Service, images
from tests.workers.endless import endless

STEPS = [{"technique": "graph_optimization"}, {"technique": "static_quantization", "keep": "none"}]


@pytest.fixture(scope="module")
def cnn(service: Service) -> Json:
    return service.model(networks.cnn().SerializeToString())


@pytest.fixture(scope="module")
def data(service: Service) -> Json:
    return service.dataset(images(3000))


@pytest.fixture(scope="module")
def loop(service: Service) -> Json:
    return service.model(endless())


@pytest.fixture(autouse=True)
def one_worker(service: Service) -> None:
    """Each test may kill the last one's."""
    if service.workers[-1].poll() is not None:
        service.start_worker()


def children(service: Service) -> list[psutil.Process]:
    """Those that the sandbox of the last worker has forked."""
    forkserver, *_ = psutil.Process(service.workers[-1].pid).children()
    return forkserver.children()


def types(service: Service, job: Json) -> list[str]:
    return [event["type"] for event in service.events(job)]


def test_a_killed_worker_s_job_is_finished_once_by_another(service: Service, cnn: Json, data: Json) -> None:
    expected = service.finished(service.submit(cnn, data, *STEPS, cache="off"))
    job = service.submit(cnn, data, *STEPS, cache="off")
    service.reached(job, "job.step.completed")
    service.workers[-1].kill()
    service.start_worker()

    job = service.finished(job)

    assert job["state"] == "succeeded", job["error"]
    assert [a["sha256"] for a in job["artifacts"]] == [a["sha256"] for a in expected["artifacts"]]
    told = types(service, job)
    assert told.count("job.started") == 2
    assert told.count("job.requeued") == 1
    assert told.count("job.succeeded") == 1
    firsts = [e for e in service.events(job) if e["type"] == "job.step.started" and e["data"]["index"] == 0]
    assert len(firsts) == 1  # it went on after the step that was done


def test_a_killed_child_is_tried_once_more(service: Service, cnn: Json, data: Json) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    service.reached(job, "job.progress")
    eventually(lambda: children(service))[0].kill()

    assert service.finished(job)["state"] == "succeeded"
    assert types(service, job).count("job.started") == 1


def test_a_child_that_always_dies_fails_the_job(service: Service, loop: Json) -> None:
    job = service.submit(loop, None, {"technique": "graph_optimization"})
    seen: set[int] = set()
    for _ in range(2):
        child = eventually(lambda: [c for c in children(service) if c.pid not in seen])[0]
        seen.add(child.pid)
        child.kill()

    job = service.finished(job)

    assert (job["state"], job["error"]["code"], job["error"]["class"]) == (
        "failed",
        "E_SANDBOX_CRASH",
        "resource",
    )
    assert service.workers[-1].poll() is None


def test_a_cancel_takes_effect_in_native_code(service: Service, loop: Json) -> None:
    job = service.submit(loop, None, {"technique": "graph_optimization"})
    eventually(lambda: children(service))
    time.sleep(0.5)
    asked = time.monotonic()
    service.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()

    assert service.finished(job)["state"] == "cancelled"
    assert time.monotonic() - asked < 5
    assert not children(service)


def test_a_job_that_takes_too_long_is_ended(service: Service, loop: Json) -> None:
    job = service.finished(service.submit(loop, None, {"technique": "graph_optimization"}, timeout_seconds=2))
    assert (job["error"]["code"], job["error"]["class"]) == ("E_SANDBOX_TIMEOUT", "timeout")


def test_a_worker_told_to_leave_gives_its_job_back(
    service: Service, loop: Json, cnn: Json, data: Json
) -> None:
    job = service.submit(cnn, data, *STEPS, cache="off")
    service.reached(job, "job.started")
    leaving = service.workers[-1]
    asked = time.monotonic()
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait(20) == 0
    assert time.monotonic() - asked < 20
    service.start_worker()

    job = service.finished(job)

    assert job["state"] == "succeeded"
    assert job["attempts"] == 1  # no attempt was charged
    assert service.workers[-2].returncode == 0


def test_twenty_messages_start_a_job_once(service: Service, cnn: Json, data: Json) -> None:
    extra = service.start_worker()
    job = service.submit(cnn, data, *STEPS, cache="off")
    for _ in range(20):
        service.services.queue.put("run_job", job["id"])
    job = service.finished(job)
    eventually(lambda: service.services.queue.waiting("cpu") == 0)

    assert types(service, job).count("job.started") == 1
    extra.send_signal(signal.SIGTERM)
    extra.wait(20)
    service.workers.remove(extra)


def test_no_directory_or_child_outlives_its_work(service: Service) -> None:
    assert not children(service)
    work = service.settings.data_dir / "work"
    eventually(lambda: [list(left.iterdir()) for left in work.iterdir()] == [[]])
