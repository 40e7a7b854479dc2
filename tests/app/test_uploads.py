import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.app.conftest import ONNX, Api, problem, sha256

BODY = {"filename": "net.onnx", "bytes": len(ONNX), "purpose": "model"}


def parts(settings: Settings) -> list[Path]:
    return [path for path in (settings.data_dir / "blobs").rglob("*.part") if path.is_file()]


def test_announced_then_sent(api: Api) -> None:
    made = api.client.post("/v1/uploads", json=BODY)
    upload = made.json()
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/uploads/{upload['id']}"
    assert upload == {
        "id": upload["id"],
        "state": "pending",
        "purpose": "model",
        "filename": "net.onnx",
        "bytes": len(ONNX),
        "sha256": None,
        "content_url": f"/v1/uploads/{upload['id']}/content",
        "created_at": upload["created_at"],
        "completed_at": None,
    }

    sent = api.client.put(upload["content_url"], content=ONNX)

    assert sent.status_code == 200
    done = sent.json()
    assert done == {
        **upload,
        "state": "completed",
        "sha256": sha256(ONNX),
        "completed_at": done["completed_at"],
    }
    assert api.client.get(f"/v1/uploads/{upload['id']}").json() == done
    assert b"".join(api.services.blobs.open(sha256(ONNX), 0, len(ONNX))) == ONNX
    assert problem(api.client.put(upload["content_url"], content=ONNX)) == (409, "upload_completed")
    assert api.client.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert problem(api.client.get(f"/v1/uploads/{upload['id']}")) == (404, "not_found")


LARGE = ONNX[:8] + bytes(range(256)) * 80_000  # 20 MB: read from the socket itself


@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_of_many_batches_arrive_whole(api: Api, settings: Settings, chunked: bool) -> None:
    upload = api.client.post("/v1/uploads", json={**BODY, "bytes": len(LARGE)}).json()
    content = iter([LARGE[:7_000_000], LARGE[7_000_000:]]) if chunked else LARGE
    sent = api.client.put(upload["content_url"], content=content)
    assert (sent.status_code, sent.json()["sha256"]) == (200, sha256(LARGE))
    assert parts(settings) == []


def test_more_large_bodies_at_once_than_fast_lanes(api: Api, settings: Settings) -> None:
    contents = [LARGE + bytes([number]) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(api.upload, contents))
    assert [upload["sha256"] for upload in done] == [sha256(content) for content in contents]
    assert parts(settings) == []


def test_a_large_body_of_the_wrong_kind_is_refused_early(api: Api, settings: Settings) -> None:
    upload = api.client.post("/v1/uploads", json={**BODY, "bytes": len(LARGE)}).json()
    with _half_sent(api.client, upload["content_url"], len(LARGE)) as connection:
        connection.sendall(b"\x80\x04" + LARGE[2 : 5 << 20])
        connection.settimeout(2)
        try:
            answer = connection.recv(65536)
        except (
            TimeoutError
        ):  # nothing had arrived when the socket was lent: a piece is judged when the next is full
            connection.sendall(LARGE[5 << 20 : 8 << 20])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 415 ")
    time.sleep(0.2)
    assert parts(settings) == []


def test_known_bytes_are_not_sent_again_but_only_within_a_project(api: Api) -> None:
    api.upload()
    known = {**BODY, "sha256": sha256(ONNX)}
    assert api.client.post("/v1/uploads", json=known).json()["state"] == "completed"
    assert api.other.post("/v1/uploads", json=known).json()["state"] == "pending"
    renamed = {**known, "filename": "net.npz"}
    assert problem(api.client.post("/v1/uploads", json=renamed)) == (415, "format_mismatch")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (ONNX + b"x", (413, "too_large")),
        (ONNX[:-1], (422, "size_mismatch")),
        (b"\x80\x04" + ONNX[2:], (415, "format_mismatch")),
    ],
    ids=["longer", "shorter", "pickle"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_not_as_announced_leaves_nothing(
    api: Api, settings: Settings, sent: bytes, expected: tuple[int, str], chunked: bool
) -> None:
    upload = api.client.post("/v1/uploads", json=BODY).json()
    content = iter([sent[:5000], sent[5000:]]) if chunked else sent
    assert problem(api.client.put(upload["content_url"], content=content)) == expected
    assert parts(settings) == []
    assert api.client.get(f"/v1/uploads/{upload['id']}").json()["state"] == "pending"
    assert api.client.put(upload["content_url"], content=ONNX).status_code == 200


def test_wrong_checksum(api: Api, settings: Settings) -> None:
    upload = api.client.post("/v1/uploads", json={**BODY, "sha256": "0" * 64}).json()
    assert problem(api.client.put(upload["content_url"], content=ONNX)) == (422, "checksum_mismatch")
    assert parts(settings) == []
    assert api.services.blobs.stat(sha256(ONNX)) is None


def test_refused_when_announced(api: Api) -> None:
    huge = {**BODY, "bytes": api.services.settings.max_model_bytes + 1}
    assert problem(api.client.post("/v1/uploads", json=huge)) == (413, "too_large")
    assert problem(api.client.post("/v1/uploads", json={**BODY, "bytes": 0})) == (422, "empty_file")
    evil = api.client.post("/v1/uploads", json={**BODY, "filename": "../../etc/passwd"})
    assert problem(evil) == (422, "validation_error")
    assert evil.json()["errors"][0]["pointer"] == "/filename"


def test_client_that_leaves(api: Api, settings: Settings) -> None:
    upload = api.client.post("/v1/uploads", json={**BODY, "bytes": 50_000_000}).json()
    with _half_sent(api.client, upload["content_url"], 50_000_000) as connection:
        connection.sendall(ONNX * 600)
        time.sleep(0.3)
    time.sleep(0.3)
    assert parts(settings) == []
    assert api.client.get(f"/v1/uploads/{upload['id']}").json()["state"] == "pending"


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
@pytest.mark.parametrize("length", [len(ONNX), len(LARGE)])
def test_client_that_stalls(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setitem(api.services.settings.__dict__, "body_idle_seconds", 0.3)
    upload = api.client.post("/v1/uploads", json={**BODY, "bytes": length}).json()
    with _half_sent(api.client, upload["content_url"], length) as connection:
        connection.sendall(ONNX[:100])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert parts(settings) == []


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_full_disk(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(api.services.settings.__dict__, "disk_floor_fraction", 1.0)
    assert problem(api.client.post("/v1/uploads", json=BODY)) == (507, "storage_full")


def _half_sent(client: httpx.Client, path: str, length: int) -> socket.socket:
    url = client.base_url
    assert url.port is not None
    connection = socket.create_connection((url.host, url.port), timeout=10)
    head = f"PUT {path} HTTP/1.1\r\nHost: pare\r\nContent-Length: {length}\r\n"
    connection.sendall(f"{head}Authorization: {client.headers['authorization']}\r\n\r\n".encode())
    return connection
