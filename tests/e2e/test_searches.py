"""Automated search, by real workers: it finds, proves, stops, survives, and repeats itself."""

import signal
import time
from collections import Counter

import numpy as np
import pytest

from tests.compression import networks
from tests.e2e.test_failures import one_worker
from tests.programs import eventually
from tests.service import Json, Service, npz

__all__ = ["one_worker"]
BUDGET = {"max_metric_drop": 1.0, "objective": "bytes", "seconds": 300, "trials": 5}
OVER = {"succeeded", "failed", "cancelled"}


def labelled(n: int = 400) -> bytes:
    random = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        return random.normal(size=(count, 1, 12, 12)).astype(np.float32), random.integers(0, 10, count)

    (train, train_label), (calibration, _), (test, test_label) = split(n), split(32), split(96)
    return npz(
        train__image=train,
        train__label=train_label,
        calibration__image=calibration,
        test__image=test,
        test__label=test_label,
    )


@pytest.fixture(scope="module")
def cnn(service: Service) -> Json:
    return service.model(networks.cnn().SerializeToString())


@pytest.fixture(scope="module")
def data(service: Service) -> Json:
    return service.dataset(labelled())


def ordered(service: Service, cnn: Json, data: Json, **more: object) -> Json:
    body = {"model_id": cnn["id"], "dataset_id": data["id"], "budget": BUDGET, **more}
    return dict(service.client.post("/v1/searches", json=body).raise_for_status().json())


def now(service: Service, search: Json) -> Json:
    return dict(service.client.get(f"/v1/searches/{search['id']}").raise_for_status().json())


def trials(service: Service, search: Json) -> list[Json]:
    return list(service.client.get(f"/v1/searches/{search['id']}/trials").raise_for_status().json()["data"])


def over(service: Service, search: Json, seconds: float = 240) -> Json:
    return eventually(lambda: (found := now(service, search))["state"] in OVER and found, seconds, 0.2)


def begun(service: Service, search: Json, count: int) -> None:
    eventually(lambda: sum(now(service, search)["trials"].values()) >= count, 120, 0.1)


def alone(service: Service) -> None:
    """One worker: two plan other trials, and one that another test has killed is taken for alive a while."""

    def living() -> int:
        workers = service.client.get("/v1/workers").raise_for_status().json()["data"]
        return sum(worker["alive"] for worker in workers)

    eventually(lambda: living() == 1, 90, 0.5)


@pytest.fixture(scope="module")
def found(service: Service, cnn: Json, data: Json) -> Json:
    alone(service)
    return over(service, ordered(service, cnn, data))


@pytest.mark.timeout(400)
def test_a_budget_becomes_an_artifact_with_a_proof(service: Service, found: Json) -> None:
    assert (found["state"], found["outcome"]) == ("succeeded", "met"), found
    assert found["trials"] == {"succeeded": 5} or found["trials"].get("failed", 0) < 3
    proof = found["proof"]
    assert proof["measurements"]["original"]["metric"]["n"] == 96  # the test split, and all of it
    assert len(proof["cache_hits"]) == len(proof["recipe"]["steps"])
    chosen = trials(service, found)[found["chosen"]]
    assert 30 <= chosen["measurements"]["original"]["metric"]["n"] <= 50  # a tenth of the train split
    best = min(each["point"]["bytes"] for each in trials(service, found) if each["point"])
    assert chosen["point"]["bytes"] == best
    model = service.download(proof)
    assert len(model) == proof["measurements"]["compressed"]["bytes"]


@pytest.mark.timeout(400)
def test_another_point_is_taken_without_searching_again(service: Service, found: Json) -> None:
    frontier = service.client.get(f"/v1/searches/{found['id']}/frontier").json()["data"]
    assert frontier
    other = next(each for each in trials(service, found) if each["state"] == "succeeded")
    body = {"trial": other["number"], "formats": ["onnx", "ort"]}
    job = service.client.post(f"/v1/searches/{found['id']}/materialize", json=body).raise_for_status().json()
    job = service.finished(job)
    assert job["state"] == "succeeded", job["error"]
    assert {artifact["format"] for artifact in job["artifacts"]} == {"onnx", "ort"}
    assert len(job["cache_hits"]) == len(job["recipe"]["steps"])


@pytest.mark.timeout(400)
def test_the_same_search_again_tries_the_same_and_computes_nothing(
    service: Service, cnn: Json, data: Json, found: Json
) -> None:
    alone(service)
    again = over(service, ordered(service, cnn, data))
    mine, theirs = trials(service, again), trials(service, found)
    shared = min(len(mine), len(theirs))  # another test may have searched on
    assert shared == 5
    assert [each["recipe"] for each in mine] == [each["recipe"] for each in theirs[:shared]]
    steps = sum(len(each["recipe"]["steps"]) for each in mine if each["state"] == "succeeded")
    assert again["cache_hits"] >= steps
    assert again["chosen"] == found["chosen"]


@pytest.mark.timeout(400)
def test_more_trials_go_on_from_those_there_are(service: Service, found: Json) -> None:
    path = f"/v1/searches/{found['id']}"
    before = trials(service, found)
    service.client.post(f"{path}/resume", json={"seconds": 120, "trials": 2}).raise_for_status()
    again = over(service, found)
    assert again["state"] == "succeeded", again
    after = trials(service, again)
    assert [each["job_id"] for each in after[: len(before)]] == [each["job_id"] for each in before]
    assert len(before) < len(after) <= len(before) + 2


@pytest.mark.timeout(400)
def test_what_is_cancelled_proves_the_best_so_far(service: Service, cnn: Json, data: Json) -> None:
    search = ordered(service, cnn, data, cache="off")
    eventually(lambda: now(service, search)["trials"].get("succeeded", 0) >= 1, 120, 0.05)
    service.client.post(f"/v1/searches/{search['id']}/cancel").raise_for_status()
    ended = over(service, search)
    assert ended["state"] == "cancelled"
    assert ended["chosen"] is not None
    assert ended["proof"]["state"] == "succeeded"
    assert service.download(ended["proof"])


@pytest.mark.timeout(600)
def test_killed_in_mid_search_one_of_two_workers_loses_nothing(
    service: Service, cnn: Json, data: Json
) -> None:
    killed = service.start_worker()
    search = ordered(service, cnn, data, cache="off", seed=1)
    begun(service, search, 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    service.workers.remove(killed)  # the first one lives on, and needs no other in its place

    ended = over(service, search, 400)

    assert ended["state"] == "succeeded", ended
    told = trials(service, ended)
    assert [each["number"] for each in told] == list(range(len(told)))
    assert Counter(each["state"] for each in told)["succeeded"] >= len(told) - 1
    assert {each["state"] for each in told} <= OVER


def test_time_that_is_up_ends_with_what_there_is(service: Service, cnn: Json, data: Json) -> None:
    begun_at = time.monotonic()
    search = ordered(service, cnn, data, budget={**BUDGET, "seconds": 8, "trials": 1000}, cache="off")
    ended = over(service, search)
    assert ended["state"] == "succeeded", ended
    assert ended["elapsed_seconds"] < 20
    assert time.monotonic() - begun_at < 60


def test_a_limit_that_cannot_be_judged_ends_the_search_at_once(service: Service, cnn: Json) -> None:
    """Labels that are no classes of the model: the first trial tells, not the last."""
    random = np.random.default_rng(0)
    arrays = {
        f"{split}__{name}": array
        for split, n in (("train", 400), ("calibration", 32), ("test", 96))
        for name, array in (
            ("image", random.normal(size=(n, 1, 12, 12)).astype(np.float32)),
            ("label", random.normal(size=(n, 3, 3)).astype(np.float32)),
        )
    }
    search = over(service, ordered(service, cnn, service.dataset(npz(**arrays)), cache="off"))
    assert search["state"] == "failed"
    assert search["error"]["code"] == "metric_unmeasured"
    assert "max_metric_drop" in search["error"]["detail"]
    assert "`task`" in search["error"]["detail"]
    assert sum(search["trials"].values()) < BUDGET["trials"]
