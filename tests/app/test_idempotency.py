from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx
import pytest

from tests.app.conftest import STEPS, Api, problem


def test_the_first_answer_is_given_again(api: Api) -> None:
    body = {"model_id": api.model()["id"], "recipe": {"steps": STEPS}}
    headers = {"Idempotency-Key": "one"}
    first, again = (api.client.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = api.client.post("/v1/jobs", json={**body, "seed": 1}, headers=headers)
    assert problem(other) == (422, "idempotency_key_reused")
    assert len(api.client.get("/v1/jobs").json()["data"]) == 1


def test_keys_are_of_a_route_and_of_a_caller(api: Api) -> None:
    headers = {"Idempotency-Key": "same"}
    body = {"filename": "a.onnx", "bytes": 9, "purpose": "model"}
    made = api.client.post("/v1/uploads", json=body, headers=headers).json()
    theirs = api.other.post("/v1/uploads", json=body, headers=headers).json()
    assert made["id"] != theirs["id"]
    job = api.client.post(
        "/v1/jobs", json={"model_id": api.model()["id"], "recipe": {"steps": STEPS}}, headers=headers
    )
    assert job.status_code == 202


def test_fifty_at_once_are_one_job(api: Api) -> None:
    body = {"model_id": api.model()["id"], "recipe": {"steps": STEPS}}

    def submit(_number: int) -> httpx.Response:
        return api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "all"})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submit, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.client.get("/v1/jobs").json()["data"]) == 1


def test_a_refused_request_may_be_mended(api: Api) -> None:
    headers = {"Idempotency-Key": "again"}
    missing = {"model_id": "mdl_0", "recipe": {"steps": STEPS}}
    assert problem(api.client.post("/v1/jobs", json=missing, headers=headers))[0] == 404
    mended = {**missing, "model_id": api.model()["id"]}
    assert api.client.post("/v1/jobs", json=mended, headers=headers).status_code == 202


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_in_flight(api: Api) -> None:
    body = {"model_id": api.model()["id"], "recipe": {"steps": STEPS}}
    headers = {"Idempotency-Key": "slow"}
    with ThreadPoolExecutor(2) as pool:
        with api.services.database.write():  # nobody else can write meanwhile
            both = [pool.submit(api.client.post, "/v1/jobs", json=body, headers=headers) for _ in range(2)]
            first = next(as_completed(both)).result()
        assert problem(first) == (409, "idempotency_key_in_flight")
        assert sorted(done.result().status_code for done in both) == [202, 409]


def test_cancel_is_recorded_too(api: Api) -> None:
    job = api.job()
    headers = {"Idempotency-Key": "c"}
    first, again = (api.client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (202, 202, first.content)
