from pathlib import Path

import pytest

from compression.inspection import ArraySpec
from tests.app.conftest import DATA, STEPS, Api, Json, problem

ABSENT = "mdl_00000000000000000000000000"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "artifact.onnx"
    path.write_bytes(b"compressed" * 1000)
    return path


def expected(job: Json, **changed: object) -> Json:
    recipe = {
        "steps": [{"technique": "half_precision"}],
        "max_metric_drop": 0.01,
        "min_agreement": 0.9,
        "task": "auto",
    }
    return {
        "id": job["id"],
        "state": "queued",
        "phase": "queued",
        "progress": 0,
        "queue": "cpu",
        "queue_position": None,
        "model_id": job["model_id"],
        "dataset_id": None,
        "recipe": recipe,
        "seed": 7,
        "cache": "use",
        "cache_hits": [],
        "target": "cpu",
        "timeout_seconds": 3600,
        "labels": {"team": "vision"},
        "formats": ["onnx"],
        "failed_formats": [],
        "artifact_id": None,
        "search_id": None,
        "trial": None,
        "attempts": 0,
        "outcome": None,
        "outcome_reasons": [],
        "measurements": None,
        "artifacts": [],
        "environment": None,
        "error": None,
        "created_at": job["created_at"],
        "started_at": None,
        "finished_at": None,
        **changed,
    }


def test_submitted_run_finished(api: Api, artifact: Path) -> None:
    job = api.job(labels={"team": "vision"}, seed=7)
    job["recipe"]["steps"] = [{"technique": step["technique"]} for step in job["recipe"]["steps"]]
    assert job == expected(job)
    assert api.client.get(f"/v1/jobs/{job['id']}").json()["queue_position"] == 1

    done = api.finish(job, artifact)
    done["recipe"]["steps"] = [{"technique": step["technique"]} for step in done["recipe"]["steps"]]
    (made,) = done["artifacts"]
    assert done == expected(
        job,
        state="succeeded",
        phase="finished",
        progress=1,
        attempts=1,
        outcome="met",
        measurements=done["measurements"],
        artifacts=[made],
        environment={"seed": 0},
        started_at=done["started_at"],
        finished_at=done["finished_at"],
    )
    assert done["measurements"]["ratios"]["bytes"] == {"value": 2.0, "ci95": [1.9, 2.1]}
    assert api.client.get(f"/v1/artifacts/{made['id']}").json() == made
    listed = api.client.get("/v1/jobs", params={"label": "team:vision"}).json()
    assert [item["artifacts"] for item in listed["data"]] == [[made]]
    report = api.client.get(f"/v1/jobs/{job['id']}/report").json()
    assert set(report) == {*done, "steps"}


def test_unknown_and_unready_models(api: Api) -> None:
    body: Json = {"model_id": ABSENT, "recipe": {"steps": STEPS}}
    assert problem(api.client.post("/v1/jobs", json=body)) == (404, "not_found")
    made = api.client.post("/v1/models", json={"upload_id": api.upload()["id"]}).json()
    answer = api.client.post("/v1/jobs", json={**body, "model_id": made["id"]})
    assert problem(answer) == (409, "model_not_ready")
    assert f"/v1/models/{made['id']}?wait=30" in answer.json()["suggestions"][0]["title"]
    own = {**body, "model_id": api.model()["id"]}
    assert problem(api.other.post("/v1/jobs", json=own)) == (404, "not_found")
    assert problem(api.client.post("/v1/jobs", json={**own, "dataset_id": ABSENT})) == (404, "not_found")


def test_recipes_are_refused_with_pointers(api: Api) -> None:
    steps = [{"technique": "static_quantisation"}, {"technique": "half_precision", "bits": 3}]
    body = {"model_id": ABSENT, "recipe": {"steps": steps}}
    answer = api.client.post("/v1/jobs", json=body)
    assert problem(answer) == (422, "validation_error")
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/recipe/steps/0", "/recipe/steps/1/bits"]
    assert "'static_quantization'" in answer.json()["suggestions"][0]["title"]


def test_needs_of_a_technique_are_checked_at_submission(api: Api) -> None:
    body = {"model_id": api.model()["id"], "recipe": {"steps": [{"technique": "static_quantization"}]}}
    answer = api.client.post("/v1/jobs", json=body)
    assert problem(answer) == (422, "recipe_refused")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/recipe/steps/0"]


def test_a_data_set_that_does_not_fit_is_refused(api: Api) -> None:
    wide = [ArraySpec(name="image", split="test", dtype="uint8", shape=(16, 3, 9, 9))]
    data = api.dataset(DATA.model_copy(update={"arrays": tuple(wide), "splits": {"test": 16}}))
    body = {"model_id": api.model()["id"], "dataset_id": data["id"], "recipe": {"steps": STEPS}}
    answer = api.client.post("/v1/jobs", json=body)
    assert problem(answer) == (422, "dataset_misfit")
    assert answer.json()["errors"] != []


def test_a_data_set_that_fits(api: Api) -> None:
    assert api.job(dataset_id=api.dataset()["id"])["state"] == "queued"


def test_lists_are_cut_by_cursor(api: Api) -> None:
    ids = [api.job()["id"] for _ in range(5)]
    first = api.client.get("/v1/jobs", params={"limit": 3}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:1:-1], True)
    rest = api.client.get("/v1/jobs", params={"limit": 3, "after": first["next_cursor"]}).json()
    assert [job["id"] for job in rest["data"]] == ids[1::-1]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    assert api.other.get("/v1/jobs").json() == {"data": [], "has_more": False, "next_cursor": None}
    for cursor in ("x", "AAAA", "zz=="):
        assert problem(api.client.get("/v1/jobs", params={"after": cursor})) == (422, "invalid_cursor")
    queued = api.client.get("/v1/jobs", params={"state": "queued", "model_id": first["data"][0]["model_id"]})
    assert [job["id"] for job in queued.json()["data"]] == [ids[4]]


def test_an_unchanged_job_is_304(api: Api) -> None:
    path = f"/v1/jobs/{api.job()['id']}"
    etag = api.client.get(path).headers["etag"]
    unchanged = api.client.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    api.client.post(f"{path}/cancel")
    assert api.client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_cancel(api: Api) -> None:
    queued, running = api.job(), api.job()
    claim = api.claim(running)
    cancelled = api.client.post(f"/v1/jobs/{queued['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    cancelling = api.client.post(f"/v1/jobs/{running['id']}/cancel")
    assert (cancelling.status_code, cancelling.json()["state"]) == (202, "cancelling")
    assert api.services.jobs.heartbeat(claim) == "cancel"
    api.services.jobs.cancelled(claim)
    assert problem(api.client.post(f"/v1/jobs/{running['id']}/cancel")) == (409, "job_over")
    states = [step["state"] for step in api.client.get(f"/v1/jobs/{running['id']}/steps").json()["data"]]
    assert states == ["cancelled"]


def test_delete(api: Api, artifact: Path) -> None:
    job = api.job()
    model = f"/v1/models/{job['model_id']}"
    assert problem(api.client.delete(f"/v1/jobs/{job['id']}")) == (409, "job_not_over")
    assert problem(api.client.get(f"/v1/jobs/{job['id']}/report")) == (409, "job_not_over")
    assert problem(api.client.delete(model)) == (409, "in_use")
    (made,) = api.finish(job, artifact)["artifacts"]
    assert api.client.delete(model).status_code == 204
    assert problem(api.client.get(model)) == (404, "not_found")
    assert api.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert problem(api.client.get(f"/v1/jobs/{job['id']}")) == (404, "not_found")
    assert problem(api.client.get(f"/v1/artifacts/{made['id']}")) == (404, "not_found")
