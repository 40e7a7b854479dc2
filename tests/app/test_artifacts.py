import base64
import hashlib
import os
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.app.conftest import Api, Json, problem, sha256

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def made(api: Api, tmp_path: Path) -> Json:
    path = tmp_path / "artifact.onnx"
    path.write_bytes(CONTENT)
    (artifact,) = api.finish(api.job(), path)["artifacts"]
    return dict(artifact)


def test_metadata(made: Json) -> None:
    assert made == {
        "id": made["id"],
        "job_id": made["job_id"],
        "format": "onnx",
        "filename": "net-int8.onnx",
        "sha256": sha256(CONTENT),
        "bytes": len(CONTENT),
        "bytes_zstd": None,
        "runtime": {},
        "provenance": {},
        "content_url": f"/v1/artifacts/{made['id']}/content",
        "created_at": made["created_at"],
    }


def test_download(api: Api, settings: Settings, made: Json) -> None:
    answer = api.client.get(made["content_url"])
    assert answer.headers["etag"] == f'"{made["sha256"]}"'
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    if settings.blobs.startswith("s3"):
        assert answer.status_code == 307
        answer = httpx.get(answer.headers["location"])
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert "net-int8.onnx" in answer.headers["content-disposition"]
    assert problem(api.other.get(made["content_url"])) == (404, "not_found")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_ranges(api: Api, made: Json) -> None:
    url, etag = made["content_url"], f'"{made["sha256"]}"'

    def get(**headers: str) -> httpx.Response:
        return api.client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})

    part = get(Range="bytes=1000-1999")
    assert (part.status_code, part.content) == (206, CONTENT[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
    assert get(Range="bytes=-5").content == CONTENT[-5:]
    assert get(Range="bytes=5-", If_Range=etag).status_code == 206
    assert get(Range="bytes=5-", If_Range='"other"').content == CONTENT
    assert get(Range="lines=1").content == CONTENT
    beyond = get(Range=f"bytes={len(CONTENT)}-")
    assert problem(beyond) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert get(If_None_Match=etag).status_code == 304
    head = api.client.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_flipped_byte_is_never_served(api: Api, made: Json) -> None:
    assert api.client.get(made["content_url"]).content == CONTENT
    path = api.services.blobs.local_path(made["sha256"])
    assert path is not None
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\x00")
    answer = api.client.get(made["content_url"])
    assert problem(answer) == (503, "artifact_corrupt")
    assert str(path) not in answer.text


def test_bytes_that_are_gone(api: Api, made: Json) -> None:
    api.services.blobs.delete(made["sha256"])
    assert problem(api.client.get(made["content_url"])) == (503, "artifact_corrupt")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_restored_file_is_served_again(api: Api, made: Json) -> None:
    path = api.services.blobs.local_path(made["sha256"])
    assert path is not None
    good = path.read_bytes()
    path.write_bytes(b"rotten")
    assert api.client.get(made["content_url"]).status_code == 503
    path.write_bytes(good)
    os.utime(path)
    assert api.client.get(made["content_url"]).content == CONTENT
