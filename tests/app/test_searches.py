"""Searches over HTTP: ordered, refused, cancelled, resumed, deleted. The services play the worker's part."""

from typing import Any

import pytest
from sqlalchemy import update

from app.adapters.search_tables import searches
from app.services.search_runs import Look
from app.services.workers import Announcement
from compression.inspection import ArraySpec, DatasetInspection
from compression.measurement import Metric
from compression.outcome import Outcome, Status
from compression.search.plan import Next
from tests.app.conftest import MEASUREMENTS, Api, Json

QUANTIZE = [{"technique": "static_quantization"}]
_METRIC = Metric(name="accuracy", value=0.9, ci95=(0.89, 0.91), n=100)
MEASURED = MEASUREMENTS.model_copy(
    update={
        "original": MEASUREMENTS.original.model_copy(update={"metric": _METRIC}),
        "compressed": MEASUREMENTS.compressed.model_copy(update={"metric": _METRIC, "bytes": 4000}),
    }
)
LABELLED = DatasetInspection(
    format="npz",
    arrays=tuple(
        ArraySpec(name=name, split=split, dtype="uint8", shape=(n, *shape))
        for split, n in (("train", 100), ("calibration", 8), ("test", 50))
        for name, shape in (("image", (1, 4, 4)), ("label", ()))
    ),
    splits={"train": 100, "calibration": 8, "test": 50},
    labelled=True,
    bytes=3000,
)


@pytest.fixture
def worked(api: Api) -> Api:
    """With a living worker of two seats."""
    api.services.workers.register(Announcement(["cpu"], 2, {}, {}, "S2"))
    return api


def ordered(api: Api, **budget: Any) -> Json:
    ids = {"model_id": api.model()["id"], "dataset_id": api.dataset(LABELLED)["id"]}
    answer = api.client.post("/v1/searches", json={**ids, "budget": {"objective": "bytes", **budget}})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/searches/{answer.json()['id']}"
    return dict(answer.json())


def look(api: Api, search: Json) -> Look:
    found = api.services.searches.look(search["id"])
    assert found is not None
    return found


def trial(api: Api, search: Json, measured: bool = True) -> Json:
    """One more, over."""
    number = len(look(api, search).trials)
    assert api.services.searches.extend(look(api, search), [Next(QUANTIZE, 1.0, 60.0)])
    job = look(api, search).trials[number].job_id
    claim = api.claim({"id": job})
    assert (claim.search_id, claim.trial, claim.formats) == (search["id"], number, [])
    if measured:
        api.services.jobs.succeed(claim, [], [MEASURED], Outcome(status=Status.MET), {})
    return dict(api.client.get(f"/v1/searches/{search['id']}/trials").json()["data"][number])


def test_a_search_is_ordered_and_asks_for_a_worker(worked: Api) -> None:
    search = ordered(worked)
    assert search["state"] == "running"
    assert search["budget"]["max_metric_drop"] == 0.01
    assert worked.client.get(f"/v1/searches/{search['id']}").json()["trials"] == {}
    assert [item["id"] for item in worked.client.get("/v1/searches").json()["data"]] == [search["id"]]
    assert worked.other.get(f"/v1/searches/{search['id']}").status_code == 404


def test_trials_are_jobs_that_lists_leave_out(worked: Api) -> None:
    search = ordered(worked)
    made = trial(worked, search)
    assert made["state"] == "succeeded"
    assert made["point"]["bytes"] == 0.5
    assert made["broken"] == []
    assert worked.client.get("/v1/jobs").json()["data"] == []
    (job,) = worked.client.get("/v1/jobs", params={"search_id": search["id"]}).json()["data"]
    assert (job["id"], job["trial"], job["artifacts"]) == (made["job_id"], 0, [])
    kept = worked.client.delete(f"/v1/jobs/{job['id']}")
    assert (kept.status_code, kept.json()["code"]) == (409, "job_in_search")


def test_pages_of_trials(worked: Api) -> None:
    search = ordered(worked)
    for _ in range(3):
        trial(worked, search)
    path = f"/v1/searches/{search['id']}/trials"
    first = worked.client.get(path, params={"limit": 2}).json()
    assert ([each["number"] for each in first["data"]], first["has_more"]) == ([0, 1], True)
    rest = worked.client.get(path, params={"limit": 2, "after": first["next_cursor"]}).json()
    assert ([each["number"] for each in rest["data"]], rest["has_more"]) == ([2], False)


def test_who_plans_on_an_older_revision_is_refused(worked: Api) -> None:
    search = ordered(worked)
    seen = look(worked, search)
    assert worked.services.searches.extend(seen, [Next(QUANTIZE, 1.0, 60.0)])
    assert not worked.services.searches.extend(seen, [Next(QUANTIZE, 1.0, 60.0)])
    assert not worked.services.searches.prove(seen, look(worked, search).trials[0])
    assert len(worked.client.get("/v1/jobs", params={"search_id": search["id"]}).json()["data"]) == 1


def test_the_frontier_and_another_point(worked: Api) -> None:
    search = ordered(worked)
    trial(worked, search)
    path = f"/v1/searches/{search['id']}"
    found = worked.client.get(f"{path}/frontier", params={"axes": ["metric", "bytes"]}).json()
    assert [each["number"] for each in found["data"]] == [0]
    answer = worked.client.post(f"{path}/materialize", json={"trial": 0, "formats": ["onnx", "ort"]})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["search_id"], job["trial"], job["formats"]) == (search["id"], None, ["onnx", "ort"])
    assert worked.claim(job).trial is None
    by_budget = worked.client.post(f"{path}/materialize", json={"budget": {"objective": "download"}})
    assert by_budget.status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "validation_error"),
        ({"trial": 0, "budget": {}}, 422, "validation_error"),
        ({"trial": 5}, 409, "no_trial"),
        ({"budget": {"max_latency_ratio": 7}}, 422, "validation_error"),
        ({"budget": {"objective": "bytes"}}, 409, "no_trial"),
    ],
)
def test_points_that_are_not_there(worked: Api, body: Json, status: int, code: str) -> None:
    search = ordered(worked)
    answer = worked.client.post(f"/v1/searches/{search['id']}/materialize", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_proof_ends_the_search(worked: Api) -> None:
    search = ordered(worked)
    trial(worked, search)
    assert worked.services.searches.prove(look(worked, search), look(worked, search).trials[0])
    told = worked.client.get(f"/v1/searches/{search['id']}").json()
    assert (told["state"], told["chosen"], told["proof"]["state"]) == ("proving", 0, "queued")


def test_cancelling_ends_trials_and_keeps_what_was_found(worked: Api) -> None:
    search = ordered(worked)
    trial(worked, search)
    trial(worked, search, measured=False)
    told = worked.client.post(f"/v1/searches/{search['id']}/cancel").json()
    assert (told["state"], told["trials"]) == ("cancelling", {"succeeded": 1, "cancelling": 1})


def test_what_is_over_is_resumed_with_more_of_both(worked: Api) -> None:
    search = ordered(worked, seconds=60, trials=1)
    trial(worked, search)
    path = f"/v1/searches/{search['id']}"
    more = {"seconds": 100, "trials": 5}
    assert worked.client.post(f"{path}/resume", json=more).json()["code"] == "search_not_over"
    seen = look(worked, search)
    worked.services.searches.finish(seen, seen.search.state.SUCCEEDED, "met")
    assert worked.client.get(path).json()["state"] == "succeeded"
    again = worked.client.post(f"{path}/resume", json=more)
    assert again.status_code == 202
    told = again.json()
    assert (told["state"], told["budget"]["trials"], told["outcome"]) == ("running", 6, None)
    assert 100 <= told["budget"]["seconds"] <= 105


def test_only_what_is_over_is_deleted_and_its_data_set_is_kept_until_then(worked: Api) -> None:
    search = ordered(worked)
    path = f"/v1/searches/{search['id']}"
    refused = worked.client.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "search_not_over")
    assert "/cancel" in refused.json()["suggestions"][0]["title"]
    for kind in ("model", "dataset"):
        used = worked.client.delete(f"/v1/{kind}s/{search[f'{kind}_id']}")
        assert (used.status_code, used.json()["code"]) == (409, "in_use")
    trial(worked, search)
    proof = worked.client.post(f"{path}/materialize", json={"trial": 0}).json()
    seen = look(worked, search)
    worked.services.searches.finish(seen, seen.search.state.SUCCEEDED, "met")
    assert worked.client.delete(path).status_code == 204
    assert worked.client.get(path).status_code == 404
    assert worked.client.get(f"/v1/jobs/{proof['id']}").json()["search_id"] is None


@pytest.mark.parametrize(
    ("budget", "code", "pointer"),
    [
        ({"seconds": 0}, "validation_error", "/budget/seconds"),
        ({"objective": "metric"}, "budget_refused", "/budget/objective"),
        ({"max_bytes": 1}, "budget_refused", "/budget/max_bytes"),
        ({"max_metric_drop": "much"}, "validation_error", "/budget/max_metric_drop"),
        ({"max_metric_drop": 0.01, "wishes": 3}, "validation_error", "/budget/wishes"),
    ],
)
def test_budgets_that_make_no_sense(worked: Api, budget: Json, code: str, pointer: str) -> None:
    ids = {"model_id": worked.model()["id"], "dataset_id": worked.dataset(LABELLED)["id"]}
    answer = worked.client.post("/v1/searches", json={**ids, "budget": budget})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_metric_without_labels_is_refused_with_a_way_out(worked: Api) -> None:
    body = {
        "model_id": worked.model()["id"],
        "dataset_id": worked.dataset()["id"],
        "budget": {"max_metric_drop": 0.01},
    }
    refused = worked.client.post("/v1/searches", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "budget_refused")
    (way,) = refused.json()["suggestions"]
    patched = {**body, "budget": {name: value for name, value in way["patch"]["budget"].items() if value}}
    assert worked.client.post("/v1/searches", json=patched).status_code == 202


def test_a_target_that_no_worker_has(api: Api) -> None:
    body = {"model_id": api.model()["id"], "budget": {}, "target": "gpu"}
    refused = api.client.post("/v1/searches", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "no_worker")


def test_the_same_order_twice_is_one_search(worked: Api) -> None:
    body = {"model_id": worked.model()["id"], "dataset_id": worked.dataset(LABELLED)["id"], "budget": {}}
    both = [worked.client.post("/v1/searches", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert both[0].json()["id"] == both[1].json()["id"]
    assert len(worked.client.get("/v1/searches").json()["data"]) == 1


def test_the_sweep_asks_for_a_search_whose_message_was_lost(worked: Api) -> None:
    search = ordered(worked)
    with worked.services.database.write() as connection:
        connection.execute(update(searches).values(message_at=0))
    waiting = worked.services.queue.waiting("cpu")
    worked.services.sweep.run()
    assert worked.services.queue.waiting("cpu") >= waiting + 1
    assert search["id"]
