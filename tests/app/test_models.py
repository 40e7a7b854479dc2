import threading

import pytest

from app.adapters.blobs import Blob
from app.domain.errors import ErrorRecord, LeaseLost
from compression.errors import ErrorKind, Suggestion
from tests.app.conftest import MODEL, ONNX, Api, problem, sha256


def test_registered_then_ready(api: Api) -> None:
    upload = api.upload()
    made = api.client.post("/v1/models", json={"upload_id": upload["id"], "labels": {"team": "vision"}})
    model = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/models/{model['id']}")
    expected = {
        "id": model["id"],
        "state": "processing",
        "name": "net.onnx",
        "labels": {"team": "vision"},
        "filename": "net.onnx",
        "source_sha256": sha256(ONNX),
        "source_bytes": len(ONNX),
        "sha256": None,
        "bytes": None,
        "inspection": None,
        "error": None,
        "created_at": model["created_at"],
        "ready_at": None,
    }
    assert model == expected
    assert problem(api.client.get(f"/v1/models/{model['id']}/inspection")) == (409, "model_not_ready")

    def inspect() -> None:
        claim = api.services.models.claim(model["id"], "worker")
        assert claim is not None
        api.services.models.ready(claim, Blob(sha256(ONNX), len(ONNX)), MODEL)

    timer = threading.Timer(0.2, inspect)
    timer.start()
    ready = api.client.get(f"/v1/models/{model['id']}", params={"wait": 20})
    timer.join()
    assert ready.elapsed.total_seconds() < 1.9
    inspection = MODEL.model_dump(mode="json")
    found = {"state": "ready", "sha256": sha256(ONNX), "bytes": len(ONNX), "inspection": inspection}
    assert ready.json() == expected | found | {"ready_at": ready.json()["ready_at"]}

    inside = api.client.get(f"/v1/models/{model['id']}/inspection").json()
    assert inside["inspection"] == inspection
    assert {"technique": "half_precision", "possible": True, "reason": None, "abilities": {}} in inside[
        "techniques"
    ]


def test_rejected_with_what_to_do(api: Api) -> None:
    made = api.client.post("/v1/models", json={"upload_id": api.upload()["id"]}).json()
    claim = api.services.models.claim(made["id"], "worker")
    assert claim is not None
    way = Suggestion("export it again")
    error = ErrorRecord("invalid_onnx", "It ends too early.", ErrorKind.INPUT, suggestions=(way,))
    api.services.models.rejected(claim, error)
    model = api.client.get(f"/v1/models/{made['id']}").json()
    assert (model["state"], model["error"]) == (
        "rejected",
        {
            "type": "urn:pare:problem:invalid_onnx",
            "title": "Invalid onnx",
            "detail": "It ends too early.",
            "code": "invalid_onnx",
            "class": "input",
            "errors": [],
            "suggestions": [{"title": "export it again"}],
            "retryable": False,
            "step": None,
        },
    )
    body = {"model_id": model["id"], "recipe": {"steps": [{"technique": "half_precision"}]}}
    assert problem(api.client.post("/v1/jobs", json=body)) == (409, "model_rejected")


def test_name_and_labels_change_and_nothing_else(api: Api) -> None:
    model = api.model()
    path = f"/v1/models/{model['id']}"
    assert api.client.patch(path, json={"name": "b"}).json() == {**model, "name": "b"}
    assert api.client.patch(path, json={"labels": {"a": "b"}}).json() == {
        **model,
        "name": "b",
        "labels": {"a": "b"},
    }
    assert problem(api.client.patch(path, json={"state": "processing"})) == (422, "validation_error")
    assert problem(api.other.patch(path, json={"name": "theirs"})) == (404, "not_found")


def test_uploads_that_cannot_be_registered(api: Api) -> None:
    pending = api.client.post(
        "/v1/uploads", json={"filename": "a.onnx", "bytes": 9, "purpose": "model"}
    ).json()
    unknown = api.client.post("/v1/models", json={"upload_id": "upl_0"})
    assert problem(unknown) == (404, "not_found")
    assert problem(api.client.post("/v1/models", json={"upload_id": pending["id"]})) == (
        409,
        "upload_incomplete",
    )
    wrong = api.client.post("/v1/datasets", json={"upload_id": api.upload()["id"]})
    assert problem(wrong) == (409, "purpose_mismatch")


def test_form(api: Api) -> None:
    made = api.client.post("/v1/models/form", files={"file": ("net.onnx", ONNX)}, data={"name": "fashion"})
    assert made.status_code == 201
    model = made.json()
    assert (model["state"], model["name"], model["source_sha256"]) == ("processing", "fashion", sha256(ONNX))
    once = {"Idempotency-Key": "k"}
    answers = [
        api.client.post("/v1/models/form", files={"file": ("net.onnx", ONNX)}, headers=once) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    other = api.client.post("/v1/models/form", files={"file": ("net.onnx", ONNX + b"x")}, headers=once)
    assert problem(other) == (422, "idempotency_key_reused")
    assert problem(api.client.post("/v1/models/form", files={"x": b""})) == (422, "validation_error")
    empty = api.client.post("/v1/models/form", files={"file": ("net.onnx", b"")})
    assert problem(empty) == (422, "empty_file")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_form_that_is_too_large(api: Api) -> None:
    content = bytes(api.services.settings.max_form_bytes + (1 << 20))
    assert problem(api.client.post("/v1/models/form", files={"file": ("net.onnx", content)})) == (
        413,
        "too_large",
    )


def test_one_inspection_at_a_time(api: Api) -> None:
    made = api.client.post("/v1/models", json={"upload_id": api.upload()["id"]}).json()
    models = api.services.models
    claim = models.claim(made["id"], "one")
    assert claim is not None
    assert models.claim(made["id"], "two") is None
    assert models.heartbeat(claim)
    models.release(claim)
    again = models.claim(made["id"], "two")
    assert again is not None
    assert again.attempts == 1
    with pytest.raises(LeaseLost):
        models.ready(claim, Blob(sha256(ONNX), len(ONNX)), MODEL)
    assert not models.heartbeat(claim)
    assert api.client.delete(f"/v1/models/{made['id']}").status_code == 204
    with pytest.raises(LeaseLost):
        models.ready(again, Blob(sha256(ONNX), len(ONNX)), MODEL)


def test_lists(api: Api) -> None:
    ids = [api.model()["id"], api.model()["id"]]
    listed = api.client.get("/v1/models", params={"state": "ready"}).json()["data"]
    assert [model["id"] for model in listed] == ids[::-1]
    assert api.client.get("/v1/models", params={"state": "rejected"}).json()["data"] == []
    assert api.other.get("/v1/models").json()["data"] == []
