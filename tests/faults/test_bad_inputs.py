"""Each bad input through the real HTTP API: a clear refusal, and nothing is lost."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compression import hostile, networks
from tests.compression.hostile import Case
from tests.faults.conftest import Watched
from tests.service import Json, images

STEP = {"technique": "graph_optimization"}


@pytest.fixture(autouse=True)
def harmless(watched: Watched) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 30  # I5
    watched.check_answers()
    assert watched.service.client.get("/healthz").is_success


def _cases(*stages: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.row}-{name}")
        for name, case in hostile.CASES.items()
        if case.stage in stages
    ]


def _inspected(watched: Watched, case: Case) -> Json:
    inspect = watched.service.model if case.purpose == "model" else watched.service.dataset
    return inspect(case.make(), case.filename)


@pytest.mark.parametrize("case", _cases("sniff"))
def test_refused_from_the_first_bytes(watched: Watched, case: Case) -> None:
    answer = watched.service.upload(case.make(), case.filename, case.purpose)
    assert answer.status_code == (422 if case.codes == {"empty_file"} else 415)
    assert answer.json()["code"] in case.codes


@pytest.mark.parametrize("case", _cases("load"))
def test_rejected_when_inspected(watched: Watched, case: Case) -> None:
    item = _inspected(watched, case)
    assert item["state"] == "rejected"
    assert item["error"]["code"] in case.codes
    assert item["error"]["class"] in {"input", "unsupported"}


@pytest.mark.parametrize("case", _cases("ok"))
def test_strange_but_sound(watched: Watched, case: Case) -> None:
    item = _inspected(watched, case)
    assert item["state"] == "ready", item["error"]


@pytest.mark.parametrize("case", _cases("run"))
def test_fails_when_run(watched: Watched, case: Case) -> None:
    service = watched.service
    model = service.model(case.make(), case.filename)
    assert model["state"] == "ready", model["error"]
    job = service.finished(service.submit(model, None, STEP, timeout_seconds=8))
    assert job["state"] == "failed"
    assert job["error"]["code"] in case.codes, job["error"]


def test_49_too_large_is_refused_before_it_is_sent(watched: Watched) -> None:
    client = watched.service.client
    announced = {"filename": "m.onnx", "bytes": (2 << 30) + 1, "purpose": "model"}
    answer = client.post("/v1/uploads", json=announced)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    upload = client.post("/v1/uploads", json={**announced, "bytes": 100}).json()
    answer = client.put(f"/v1/uploads/{upload['id']}/content", content=bytes(1 << 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


BODIES = {
    "deep": b"[" * 1_000_000,
    "large": b'{"a": "' + b"x" * (2 << 20) + b'"}',
    "duplicate keys": b'{"model_id": "mdl_a", "model_id": "mdl_b", "recipe": {"steps": []}}',
    "nan": b'{"model_id": "m", "recipe": {"steps": [], "max_metric_drop": NaN}}',
    "1e400": b'{"model_id": "m", "recipe": {"steps": [], "max_metric_drop": 1e400}}',
    "lone surrogate": rb'{"model_id": "\ud800", "recipe": {"steps": [{"technique": "graph_optimization"}]}}',
    "invalid utf-8": b'{"model_id": "\xff"}',
    "nul": b'{"model_id": "mdl_\\u0000", "recipe": {"steps": [{"technique": "graph_optimization"}]}}',
    "not an object": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("name", BODIES)
def test_73_json_that_is_none(watched: Watched, name: str) -> None:
    headers = {"content-type": "application/json"}
    answer = watched.service.client.post("/v1/jobs", content=BODIES[name], headers=headers)
    assert answer.status_code in {400, 404, 413, 422}


@pytest.fixture(scope="module")
def model(watched: Watched) -> Json:
    return watched.service.model(networks.cnn().SerializeToString())


@pytest.fixture(scope="module")
def data(watched: Watched) -> Json:
    return watched.service.dataset(images())


RECIPES: dict[str, Json] = {
    "bits": {"steps": [{"technique": "static_quantization", "weight_bits": -1}]},
    "unknown field": {"steps": [{**STEP, "epochs": 10**9}]},
    "unknown technique": {"steps": [{"technique": "../../etc/passwd"}]},
    "path as name": {"steps": [{"technique": "/etc/passwd"}]},
    "no step": {"steps": []},
    "too many steps": {"steps": [STEP] * 17},
    "wrong type": {"steps": "graph_optimization"},
    "drop": {"steps": [STEP], "max_metric_drop": -1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_74_recipes_that_cannot_be(watched: Watched, model: Json, name: str) -> None:
    body = {"model_id": model["id"], "recipe": RECIPES[name]}
    answer = watched.service.client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/recipe")


def test_74_another_projects_ids_do_not_exist(watched: Watched, model: Json) -> None:
    services = watched.service.services
    key = services.keys.create(services.keys.create_project("other"), "other")
    headers = {"authorization": f"Bearer {key}"}
    client = watched.service.client
    body = {"model_id": model["id"], "recipe": {"steps": [STEP]}}
    assert client.get(f"/v1/models/{model['id']}", headers=headers).status_code == 404
    assert client.post("/v1/jobs", json=body, headers=headers).status_code == 404


def test_76_an_idempotency_key_names_one_body(watched: Watched, model: Json) -> None:
    client, headers = watched.service.client, {"idempotency-key": "one"}
    body = {"model_id": model["id"], "recipe": {"steps": [STEP]}}
    first = client.post("/v1/jobs", json=body, headers=headers)
    again = client.post("/v1/jobs", json=body, headers=headers)
    other = client.post("/v1/jobs", json={**body, "seed": 1}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"


def test_a_data_set_that_does_not_fit_is_refused_at_once(watched: Watched, model: Json) -> None:
    other = watched.service.dataset(images(size=9))
    body = {"model_id": model["id"], "dataset_id": other["id"], "recipe": {"steps": [STEP]}}
    answer = watched.service.client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    said = json.dumps(answer.json())
    assert "image" in said
    assert "12" in said
    assert "9" in said


def test_79_a_flipped_byte_is_never_served(watched: Watched, model: Json, data: Json) -> None:
    service = watched.service
    job = service.finished(service.submit(model, data, {"technique": "half_precision"}))
    artifact = job["artifacts"][0]
    blob = service.settings.data_dir / "blobs" / artifact["sha256"][:2] / artifact["sha256"]
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    answer = _content(service.client, artifact)
    assert answer.status_code in {410, 503}
    assert answer.json()["code"] == "artifact_corrupt"
    assert content not in answer.content
    watched.answers.clear()  # here a 503 is what is wanted


def _content(client: httpx.Client, artifact: Json) -> httpx.Response:
    return client.get(f"/v1/artifacts/{artifact['id']}/content")
