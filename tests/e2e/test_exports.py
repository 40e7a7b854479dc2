"""A job's files in other formats, their bundles, and conversions afterwards, through the sandbox."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.compression import networks
from tests.service import Json, Service, images

pytestmark = pytest.mark.parametrize("service", ["embedded", "full"], indirect=True)
FORMATS = ["onnx", "onnx_fp16", "litert", "openvino", "ort"]


def bundle(service: Service, artifact: Json) -> zipfile.ZipFile:
    answer = service.client.get(artifact["bundle_url"], follow_redirects=True).raise_for_status()
    assert len(answer.content) == artifact["bundle_bytes"]
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_formats_of_a_job_and_a_conversion_later(service: Service, tmp_path: Path) -> None:
    model, data = service.model(networks.cnn().SerializeToString()), service.dataset(images())
    job = service.submit(model, data, {"technique": "static_quantization"}, formats=FORMATS)
    job = service.finished(job)

    assert job["state"] == "succeeded", job["error"]
    made = {artifact["format"]: artifact for artifact in job["artifacts"]}
    (failed,) = job[
        "failed_formats"
    ]  # a quantized model has no half precision; the others are not its business
    assert list(made) == ["onnx", "litert", "openvino", "ort"]
    assert (failed["format"], failed["error"]["code"]) == ("onnx_fp16", "format_unsupported")
    assert made["onnx"]["proof"] is None
    for name in ("litert", "openvino", "ort"):
        proof = made[name]["proof"]
        assert (proof["samples"], proof["metric"]["n"]) == (96, 96)
        assert proof["agreement"] > 0.95
        assert proof["difference"] < 0.05
        assert proof["latency"]["ci95"]
    for artifact in made.values():
        with bundle(service, artifact) as opened:
            assert {"pare.json", "README.md", "run.py"} < set(opened.namelist())
            folder = tmp_path / artifact["format"]
            opened.extractall(folder)
        done = subprocess.run(
            [sys.executable, "-I", "run.py"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert "logits float32 (1, 10)" in done.stdout, done.stderr

    later = service.client.post(
        f"/v1/artifacts/{made['onnx']['id']}/conversions", json={"formats": ["ort"]}
    ).raise_for_status()
    converted = service.finished(later.json())
    assert converted["state"] == "succeeded", converted["error"]
    assert [artifact["sha256"] for artifact in converted["artifacts"]] == [made["ort"]["sha256"]]
    assert converted["measurements"]["compressed"]["bytes"] == made["onnx"]["bytes"]


def test_a_conversion_that_gives_nothing_fails(service: Service) -> None:
    model = service.model(networks.cnn().SerializeToString())
    job = service.finished(service.submit(model, None, {"technique": "half_precision"}))
    url = f"/v1/artifacts/{job['artifacts'][0]['id']}/conversions"
    failed = service.finished(service.client.post(url, json={"formats": ["onnx_fp16"]}).json())
    assert (failed["state"], failed["error"]["code"]) == ("failed", "format_unsupported")


def test_a_look_at_a_data_set(service: Service) -> None:
    data = service.dataset(images())
    shown = service.client.get(f"/v1/datasets/{data['id']}/preview").raise_for_status().json()
    test = next(split for split in shown["splits"] if split["split"] == "test")
    assert sum(test["class_counts"]) == data["inspection"]["splits"]["test"]
    image = next(column for column in test["columns"] if column["name"] == "image")
    assert (len(image["rows"]), len(image["thumbnails"])) == (8, 8)
    assert image["low"] < image["high"]
