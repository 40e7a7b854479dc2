import httpx
import pytest

from app.domain.errors import DatabaseUnavailable
from tests.app.conftest import Api, problem

pytestmark = pytest.mark.parametrize("settings", ["embedded"], indirect=True)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": 1, "a": 2}',
        b'{"steps": [{"b": 1, "b": 2}]}',
        b'{"a": 1',
        b"\xff\xfe",
        b"{'a': 1}",
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads"])
def test_what_is_no_json(api: Api, path: str, body: bytes) -> None:
    answer = api.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert problem(answer) == (400, "invalid_json")
    assert len(answer.content) < 2000


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{}", b'{"recipe": []}', b'{"recipe": {"steps": []}}']
)
def test_json_that_is_no_job(api: Api, body: bytes) -> None:
    answer = api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer) == (422, "validation_error")
    assert answer.json()["errors"] != []


def test_nothing_is_taken_for_something_else(api: Api) -> None:
    body = {"filename": "a.onnx", "bytes": "12", "purpose": "model", "extra": True}
    answer = api.client.post("/v1/uploads", json=body)
    assert answer.json()["errors"] == [
        {"pointer": "/bytes", "detail": "Input should be a valid integer"},
        {"pointer": "/extra", "detail": "Extra inputs are not permitted"},
    ]


def test_bodies_of_other_kinds_and_sizes(api: Api) -> None:
    assert problem(api.client.post("/v1/jobs", data={"a": "b"})) == (415, "unsupported_media_type")
    assert problem(api.client.post("/v1/jobs", content=b"x" * (2 << 20))) == (413, "too_large")
    endless = api.client.post("/v1/jobs", content=(b"x" * 65536 for _ in range(40)))
    assert problem(endless) == (413, "too_large")


def test_addresses_and_methods(api: Api) -> None:
    assert problem(api.client.get("/v1/nothing")) == (404, "not_found")
    assert problem(api.client.get("/nothing")) == (404, "not_found")
    answer = api.client.put("/v1/jobs", json={})
    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "state=odd", "label=nocolon"])
def test_parameters(api: Api, query: str) -> None:
    answer = api.client.get(f"/v1/jobs?{query}")
    assert problem(answer) == (422, "validation_error")
    assert answer.json()["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"


@pytest.mark.parametrize("id_", ["job_0", "%00", "x" * 5000, "job_'--", "%F0%9F%92%A9", "..%2f..%2fetc"])
def test_ids(api: Api, id_: str) -> None:
    assert problem(api.client.get(f"/v1/jobs/{id_}"))[0] == 404


def test_a_fault_of_ours_says_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_arguments: object) -> None:
        raise RuntimeError("secret at /srv/pare/data")

    monkeypatch.setattr(api.services.jobs, "list", crash)
    answer = api.client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_database_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(api.services.jobs, "list", away)
    answer = api.client.get("/v1/jobs")
    assert problem(answer) == (503, "database_unavailable")
    assert (answer.headers["retry-after"], answer.json()["retryable"]) == ("2", True)


def test_request_ids(api: Api) -> None:
    assert api.client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    evil = api.client.get("/healthz", headers={"X-Request-ID": "a b;<"}).headers["x-request-id"]
    assert evil.startswith("req_")


def test_docs_are_our_own(api: Api) -> None:
    assert api.client.get("/", follow_redirects=False).headers["location"] == "/docs"
    page = api.client.get("/docs")
    assert "https://" not in page.text
    for path in (
        "/static/swagger-ui/swagger-ui-bundle.js",
        "/static/swagger-ui/swagger-ui.css",
        "/static/docs.js",
    ):
        assert path in page.text
        assert api.client.get(path).status_code == 200


def test_health_and_metrics_need_no_key(api: Api) -> None:
    with httpx.Client(base_url=api.client.base_url) as nobody:
        assert nobody.get("/healthz").json() == {"status": "ok", "version": "0.1.0"}
        ready = nobody.get("/readyz")
        checks = {"database": True, "redis": True, "blobs": True, "worker": False}
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "checks": checks})
        api.job()
        text = nobody.get("/metrics").text
    assert 'pare_jobs{queue="cpu",state="queued"} 1.0' in text
    assert 'route="/v1/jobs"' in text
