"""Who may ask for what: a matrix made from the OpenAPI document, so that no route is forgotten."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain import keys
from app.main import create_app
from app.services.workers import Announcement
from app.settings import Settings
from tests.app.conftest import STEPS, Api, problem

pytestmark = pytest.mark.parametrize("settings", ["embedded"], indirect=True)
OPEN = {"/healthz", "/readyz", "/metrics"}
SHARED = {"/v1/techniques/{name}"}
"""Addresses that name nothing of a project."""


@pytest.fixture
def operations(settings: Settings) -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    app = create_app(settings)
    yield [(m.upper(), path, op) for path, ops in app.openapi()["paths"].items() for m, op in ops.items()]
    app.state.services.close()


def body_of(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        return {"json": next(iter(content["application/json"]["examples"].values()))["value"]}
    if "multipart/form-data" in content:
        return {"files": {"file": ("a.onnx", b"\x08\x07")}}
    return {"content": b"x"} if content else {}


def test_nobody_gets_in_without_a_key(api: Api, operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    with httpx.Client(base_url=api.client.base_url) as nobody:
        for method, path, operation in operations:
            answer = nobody.request(method, path.replace("{", "").replace("}", ""), **body_of(operation))
            if path in OPEN:
                assert answer.status_code in {200, 503}, path
                assert "security" not in operation, path
            else:
                assert problem(answer) == (401, "unauthorized"), path
                assert answer.headers["www-authenticate"] == "Bearer", path
                assert operation["security"] == [{"ApiKey": []}], path


def searched(api: Api, job: dict[str, Any]) -> dict[str, Any]:
    api.services.workers.register(Announcement(["cpu"], 1, {}, {}, "S2"))
    body = {"model_id": job["model_id"], "dataset_id": job["dataset_id"], "budget": {"objective": "bytes"}}
    return dict(api.client.post("/v1/searches", json=body).raise_for_status().json())


def test_what_is_another_projects_is_not_there(
    api: Api, operations: list[tuple[str, str, dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"artifact")
    job = api.finish(api.job(dataset_id=api.dataset()["id"]), tmp_path / "a")
    ids = {
        "/v1/uploads": api.upload()["id"],
        "/v1/models": job["model_id"],
        "/v1/datasets": job["dataset_id"],
        "/v1/jobs": job["id"],
        "/v1/artifacts": job["artifacts"][0]["id"],
        "/v1/searches": searched(api, job)["id"],
    }
    for method, path, operation in operations:
        if "{" not in path or path in SHARED:
            continue
        prefix, _, rest = path.partition("/{")
        address = f"{prefix}/{ids[prefix]}{rest.partition('}')[2]}"
        body = body_of(operation)
        theirs = api.other.request(method, address, **body)
        assert problem(theirs) == (404, "not_found"), (method, path)
        missing = api.client.request(method, f"{prefix}/none{rest.partition('}')[2]}", **body)
        assert problem(missing) == (404, "not_found"), (method, path)
    stolen = {"model_id": job["model_id"], "recipe": {"steps": STEPS}}
    assert problem(api.other.post("/v1/jobs", json=stolen)) == (404, "not_found")
    upload = {"upload_id": ids["/v1/uploads"]}
    assert problem(api.other.post("/v1/models", json=upload)) == (404, "not_found")
    for identity in ids.values():
        assert identity in {job["id"], *ids.values()}
    assert api.client.get(f"/v1/jobs/{job['id']}").json() == job


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic cGFyZTpwYXJl", "Bearer pare_", "Bearer " + "x" * 10_000, "Bearer \xe9"],
)
def test_headers_that_are_no_key(api: Api, header: str) -> None:
    answer = httpx.get(f"{api.client.base_url}/v1/jobs", headers={"Authorization": header.encode("latin-1")})
    assert problem(answer) == (401, "unauthorized")


def test_a_key_in_the_address_is_none(api: Api) -> None:
    key = api.client.headers["authorization"].removeprefix("Bearer ")
    answer = httpx.get(f"{api.client.base_url}/v1/jobs", params={"api_key": key, "access_token": key})
    assert problem(answer) == (401, "unauthorized")


def test_a_wrong_checksum_never_reaches_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    read = api.services.database.read
    monkeypatch.setattr(api.services.database, "read", lambda: asked.append(1) or read())
    good = keys.mint()
    for key in (good[:-1] + ("0" if good[-1] != "0" else "1"), good.replace("pare_", "pear_"), good[:20]):
        assert api.services.keys.verify(key) is None
    assert asked == []
    assert api.services.keys.verify(good) is None
    assert asked == [1]


def test_revoked(api: Api) -> None:
    key = api.client.headers["authorization"].removeprefix("Bearer ")
    principal = api.services.keys.verify(key)
    assert principal is not None
    api.services.keys.revoke(principal.project_id, principal.key_id)
    assert problem(api.client.get("/v1/jobs")) == (401, "unauthorized")


def test_keys_are_kept_as_digests_only(api: Api, settings: Settings) -> None:
    key = api.client.headers["authorization"].removeprefix("Bearer ")
    for path in settings.data_dir.glob("pare.db*"):
        assert key.encode() not in path.read_bytes()
