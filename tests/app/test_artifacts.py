import base64
import hashlib
import os
from pathlib import Path

import httpx
import pytest

from app.domain.errors import ErrorRecord
from app.domain.records import NewArtifact
from app.settings import Settings
from compression.outcome import Outcome, Status
from tests.app.conftest import MEASUREMENTS, STEPS, Api, Json, problem, sha256

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
        "proof": None,
        "bundle_url": f"/v1/artifacts/{made['id']}/bundle",
        "bundle_bytes": 4,
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


def test_a_bundle_is_sent_as_the_file_is(api: Api, made: Json) -> None:
    answer = api.client.get(made["bundle_url"], follow_redirects=False)
    assert "net-int8.onnx.bundle.zip" in answer.headers["content-disposition"]
    if answer.status_code == 307:
        answer = httpx.get(answer.headers["location"])
    assert answer.content == b"PK.."
    assert problem(api.other.get(made["bundle_url"])) == (404, "not_found")


def test_a_conversion_is_a_job_without_steps(api: Api, made: Json, tmp_path: Path) -> None:
    url = f"/v1/artifacts/{made['id']}/conversions"
    first = api.client.get(f"/v1/jobs/{made['job_id']}").json()
    answer = api.client.post(url, json={"formats": ["ort", "openvino", "ort"]})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["artifact_id"], job["formats"]) == (made["id"], ["ort", "openvino"])
    assert (job["model_id"], job["recipe"]) == (first["model_id"], first["recipe"])
    assert api.client.get(f"/v1/jobs/{job['id']}/steps").json()["data"] == []
    # what it starts from stays, whatever becomes of the job that made it
    api.client.delete(f"/v1/jobs/{made['job_id']}").raise_for_status()
    api.services.sweep.collect()
    claim = api.claim(job)
    assert (claim.artifact_sha256, claim.formats, claim.done) == (made["sha256"], ["ort", "openvino"], [])
    path = tmp_path / "model.ort"
    path.write_bytes(b"ort")
    blob = api.services.blobs.put_file(path)
    converted = NewArtifact("ort", "model.ort", blob.sha256, blob.bytes, proof={"format": "ort"})
    failed = [{"format": "openvino", "error": ErrorRecord("format_unsupported", "Op").json()}]
    environment, outcome = {"seed": 0}, Outcome(status=Status.MET)
    api.services.jobs.succeed(claim, [converted], [MEASUREMENTS], outcome, environment, failed)
    ended = api.client.get(f"/v1/jobs/{job['id']}").json()
    assert [(each["format"], each["error"]["code"]) for each in ended["failed_formats"]] == [
        ("openvino", "format_unsupported")
    ]
    (artifact,) = ended["artifacts"]
    assert (artifact["format"], artifact["bundle_url"]) == ("ort", None)
    assert problem(api.client.get(f"/v1/artifacts/{artifact['id']}/bundle")) == (404, "not_found")
    again = f"/v1/artifacts/{artifact['id']}/conversions"
    assert problem(api.client.post(again, json={"formats": ["openvino"]})) == (409, "artifact_not_onnx")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_conversions_that_cannot_be(api: Api, made: Json) -> None:
    url = f"/v1/artifacts/{made['id']}/conversions"
    for formats in ([], ["onnx"], ["caffe"], "ort"):
        answer = api.client.post(url, json={"formats": formats})
        assert problem(answer) == (422, "validation_error")
        assert answer.json()["errors"][0]["pointer"].startswith("/formats")
    assert problem(api.other.post(url, json={"formats": ["ort"]})) == (404, "not_found")
    body = {"model_id": api.model()["id"], "recipe": {"steps": STEPS}, "formats": ["caffe"]}
    assert problem(api.client.post("/v1/jobs", json=body)) == (422, "validation_error")
    model = api.client.get(f"/v1/jobs/{made['job_id']}").json()["model_id"]
    api.client.delete(f"/v1/models/{model}").raise_for_status()
    assert problem(api.client.post(url, json={"formats": ["ort"]})) == (404, "not_found")


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
