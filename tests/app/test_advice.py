"""Advice over HTTP: what is read, and what stands in the way."""

from pathlib import Path

import pytest

from app.services.workers import Announcement
from compression.advice import Advice
from compression.advice.answer import Figure
from compression.inspection import ArraySpec
from tests.app.conftest import DATA, ONNX, STEPS, Api, problem


@pytest.fixture
def worker(api: Api) -> str:
    return api.services.workers.register(Announcement(["cpu"], 1, {"cores": 2}, {}, "S2"))


@pytest.mark.usefixtures("worker")
def test_what_is_advised_can_be_posted(api: Api) -> None:
    model, dataset = api.model()["id"], api.dataset()["id"]
    answer = api.client.get(
        f"/v1/models/{model}/advice", params={"dataset_id": dataset, "objective": "bytes"}
    ).raise_for_status()
    advice = Advice.model_validate_json(answer.content)
    assert advice.recipe is not None
    assert advice.recipe.request["dataset_id"] == dataset
    job = api.client.post("/v1/jobs", json=advice.recipe.request)
    assert (job.status_code, job.json()["model_id"]) == (202, model)
    assert advice.search is not None
    search = api.client.post("/v1/searches", json=advice.search.request)
    assert search.status_code == 202, search.text


@pytest.mark.usefixtures("worker")
def test_finished_jobs_of_the_model_are_evidence(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(ONNX)
    model = api.model()["id"]
    where = f"/v1/models/{model}/advice?objective=bytes"

    def half() -> Figure:
        found = Advice.model_validate_json(api.client.get(where).raise_for_status().content)
        return (
            next(one for one in found.recommendations if one.technique == "half_precision")
            .strengths[0]
            .expected.file
        )

    assert half().basis == "estimated"
    body = {"model_id": model, "recipe": {"steps": STEPS}}
    job = api.client.post("/v1/jobs", json=body).raise_for_status().json()
    assert half().basis == "estimated"
    api.finish(job, path)
    assert half() == Figure(value=2.0, basis="measured", ci95=(1.9, 2.1), job_id=job["id"])


@pytest.mark.usefixtures("worker")
def test_what_stands_in_the_way_is_told(api: Api) -> None:
    model = api.model()["id"]
    where = f"/v1/models/{model}/advice"
    upload = api.upload(b"PK\x03\x04" + bytes(100), "data.npz", "dataset")
    waiting = api.client.post("/v1/datasets", json={"upload_id": upload["id"]}).json()["id"]
    assert problem(api.client.get(f"{where}?dataset_id=dst_none")) == (404, "not_found")
    assert problem(api.client.get(f"{where}?dataset_id={waiting}")) == (409, "dataset_not_ready")
    assert problem(api.client.get("/v1/models/mdl_none/advice")) == (404, "not_found")
    assert problem(api.client.get(f"{where}?objective=beauty")) == (422, "validation_error")
    other = DATA.model_copy(
        update={
            "arrays": tuple(
                ArraySpec(name="sound", split=s, dtype="uint8", shape=(8, 3)) for s in DATA.splits
            )
        }
    )
    misfit = api.client.get(where, params={"dataset_id": api.dataset(other)["id"]})
    assert problem(misfit) == (422, "dataset_misfit")
    assert misfit.json()["errors"][0]["pointer"] == "/dataset_id"
    assert problem(api.other.get(where)) == (404, "not_found")


def test_without_a_worker_for_the_target_there_is_a_way_out(api: Api, worker: str) -> None:
    model = api.model()["id"]
    gpu = api.client.get(f"/v1/models/{model}/advice?target=gpu")
    assert problem(gpu) == (422, "no_worker")
    assert any("target=cpu" in way["title"] for way in gpu.json()["suggestions"])
    assert api.client.get(f"/v1/models/{model}/advice").status_code == 200
    api.services.workers.gone(worker)
    assert problem(api.client.get(f"/v1/models/{model}/advice")) == (422, "no_worker")
