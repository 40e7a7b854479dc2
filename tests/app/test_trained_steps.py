"""What steps that train ask of the service: checkpoints, models they refer to, labels."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, update

from app.adapters import tables
from app.adapters.blobs import Blob
from app.domain.errors import ErrorRecord, LeaseLost, in_recipe, merged
from app.domain.records import JobClaim, StepOutput
from compression.errors import CompressionError, FieldError, Suggestion
from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, TensorSpec
from tests.app.conftest import DATA, MODEL, ONNX, Api, Json, problem, sha256

FINETUNE = [{"technique": "finetune"}]
ABSENT = "mdl_01ABSENT"


@pytest.fixture
def claim(api: Api) -> JobClaim:
    """Of a job whose first step has been started."""
    job = api.job(dataset_id=api.dataset()["id"], recipe={"steps": FINETUNE})
    claimed = api.claim(job)
    api.services.jobs.step_started(claimed, 0)
    return claimed


def stored(api: Api, directory: Path, content: bytes) -> Blob:
    (directory / "checkpoint").write_bytes(content)
    return api.services.blobs.put_file(directory / "checkpoint")


def named(api: Api, claim: JobClaim) -> str | None:
    with api.services.database.read() as connection:
        query = select(tables.steps.c.checkpoint_sha256).where(tables.steps.c.job_id == claim.id)
        sha: str | None = connection.execute(query).scalar_one()
    return sha


def again(api: Api, claim: JobClaim) -> JobClaim:
    found = api.services.jobs.claim(claim.id, "another")
    assert found is not None
    return found


def test_the_next_attempt_is_given_the_last_checkpoint(api: Api, claim: JobClaim, tmp_path: Path) -> None:
    jobs = api.services.jobs
    first, second = (stored(api, tmp_path, content) for content in (b"first", b"second"))
    assert claim.checkpoint_sha256 is None
    assert jobs.checkpointed(claim, 0, first) is None
    assert jobs.checkpointed(claim, 0, second) == first.sha256
    assert jobs.checkpointed(claim, 0, second) is None
    jobs.release(claim)

    assert again(api, claim).checkpoint_sha256 == second.sha256

    with pytest.raises(LeaseLost):
        jobs.checkpointed(claim, 0, first)
    assert named(api, claim) == second.sha256
    events = [event.data for event in jobs.events(api.project, claim.id) if "checkpointed" in event.type]
    assert events == [{"index": 0, "bytes": 5}, {"index": 0, "bytes": 6}, {"index": 0, "bytes": 6}]


def test_a_step_that_is_over_names_no_checkpoint(api: Api, claim: JobClaim, tmp_path: Path) -> None:
    jobs, blob = api.services.jobs, stored(api, tmp_path, b"checkpoint")
    jobs.checkpointed(claim, 0, blob)
    jobs.step_completed(claim, 0, StepOutput(sha256(ONNX), len(ONNX), {}, MODEL))
    with pytest.raises(LeaseLost):
        jobs.checkpointed(claim, 0, blob)  # it was still being stored when the step ended
    jobs.release(claim)

    assert again(api, claim).checkpoint_sha256 is None
    assert named(api, claim) is None


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_job_that_is_over_names_no_checkpoint(api: Api, claim: JobClaim, tmp_path: Path, end: str) -> None:
    api.services.jobs.checkpointed(claim, 0, stored(api, tmp_path, b"checkpoint"))
    if end == "cancel":
        api.client.post(f"/v1/jobs/{claim.id}/cancel").raise_for_status()
        api.services.jobs.cancelled(claim)
    else:
        api.services.jobs.fail(claim, ErrorRecord("E_DIVERGED", "NaN"))
    assert named(api, claim) is None


def test_the_checkpoint_before_is_dropped_unless_something_names_it(
    api: Api, claim: JobClaim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.sweep._DROP_SECONDS", -1)
    jobs, sweep, blobs = api.services.jobs, api.services.sweep, api.services.blobs
    first, second = (stored(api, tmp_path, content) for content in (b"first", b"second"))
    jobs.checkpointed(claim, 0, first)
    sweep.drop(claim.project_id, first.sha256)
    assert blobs.stat(first.sha256) is not None
    jobs.checkpointed(claim, 0, second)
    sweep.drop(claim.project_id, first.sha256)
    assert blobs.stat(first.sha256) is None
    assert blobs.stat(second.sha256) is not None


def refer(api: Api, student: str) -> httpx.Response:
    body = {
        "model_id": api.model()["id"],
        "dataset_id": api.dataset()["id"],
        "recipe": {"steps": [*FINETUNE, {"technique": "distillation", "student": student}]},
    }
    return api.client.post("/v1/jobs", json=body)


def test_a_model_that_a_step_refers_to_must_be_ready_and_fit(api: Api) -> None:
    pointer = "/recipe/steps/1/student"
    processing = api.client.post("/v1/models", json={"upload_id": api.upload()["id"]}).json()
    narrow = MODEL.model_copy(
        update={"outputs": (TensorSpec(name="logits", dtype="float32", shape=("batch", 7)),)}
    )
    cases = {
        ABSENT: (404, "not_found"),
        processing["id"]: (409, "model_not_ready"),
        _ready(api, narrow): (422, "recipe_refused"),
    }
    for student, expected in cases.items():
        answer = refer(api, student)
        assert problem(answer) == expected
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_model_of_another_project_is_not_found(api: Api) -> None:
    made = api.other.post("/v1/uploads", json={"filename": "n.onnx", "bytes": len(ONNX), "purpose": "model"})
    put = api.other.put(made.json()["content_url"], content=ONNX).raise_for_status().json()
    theirs = api.other.post("/v1/models", json={"upload_id": put["id"]}).raise_for_status().json()
    claimed = api.services.models.claim(theirs["id"], "worker")
    assert claimed is not None
    api.services.models.ready(claimed, Blob(claimed.source_sha256, len(ONNX)), MODEL)
    assert problem(refer(api, theirs["id"])) == (404, "not_found")


def test_a_model_that_a_step_refers_to_stays_while_the_job_runs(api: Api) -> None:
    student = _ready(api, MODEL)
    job = refer(api, student).raise_for_status().json()
    assert api.claim(job).models == {student: sha256(ONNX)}
    assert problem(api.client.delete(f"/v1/models/{student}")) == (409, "in_use")
    api.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    claimed = api.services.jobs.claim(job["id"], "worker")
    assert claimed is None
    with api.services.database.write() as connection:
        connection.execute(update(tables.jobs).values(lease_until=0))
    api.services.sweep.run()
    assert api.client.delete(f"/v1/models/{student}").status_code == 204
    assert api.client.delete(f"/v1/jobs/{job['id']}").status_code == 204


def _ready(api: Api, inspection: ModelInspection) -> str:
    made = api.client.post("/v1/models", json={"upload_id": api.upload()["id"]}).raise_for_status().json()
    claimed = api.services.models.claim(made["id"], "worker")
    assert claimed is not None
    api.services.models.ready(claimed, Blob(claimed.source_sha256, len(ONNX)), inspection)
    return str(made["id"])


def labelled(*splits: str) -> DatasetInspection:
    """Of those splits; there are three."""
    shapes = {"train": 32, "calibration": 8, "test": 16}
    images = [
        ArraySpec(name="image", split=split, dtype="uint8", shape=(n, 1, 4, 4)) for split, n in shapes.items()
    ]
    labels = [ArraySpec(name="label", split=split, dtype="int64", shape=(shapes[split],)) for split in splits]
    given = {"arrays": (*images, *labels), "splits": shapes, "labelled": "test" in splits}
    return DATA.model_copy(update=given)


def test_labels_count_where_they_are_trained_on(api: Api) -> None:
    steps = [{"technique": "finetune", "training": {"loss": "labels", "epochs": 1}}]
    body = {"model_id": api.model()["id"], "recipe": {"steps": steps}}
    good, bad = (api.dataset(labelled(*splits))["id"] for splits in (("train",), ("calibration", "test")))
    assert api.client.post("/v1/jobs", json={**body, "dataset_id": good}).status_code == 202

    refused = api.client.post("/v1/jobs", json={**body, "dataset_id": bad})

    assert problem(refused) == (422, "recipe_refused")
    assert "the train split of the data set has none" in refused.json()["errors"][0]["detail"]
    (way,) = refused.json()["suggestions"]
    mended = merged({**body, "dataset_id": bad}, way["patch"])
    training = mended["recipe"]["steps"][0]["training"]
    assert (training["loss"], training["epochs"]) == ("distillation", 1)
    assert api.client.post("/v1/jobs", json=mended).status_code == 202


def test_a_schedule_that_ends_before_it_begins_is_refused(api: Api) -> None:
    schedule = {"kind": "polynomial_decay", "begin_step": 20, "end_step": 10}
    steps = [{"technique": "magnitude_pruning", "schedule": schedule}]
    answer = api.client.post("/v1/jobs", json={"model_id": api.model()["id"], "recipe": {"steps": steps}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/recipe/steps/0/schedule")


def test_what_a_failed_step_says_is_said_of_the_request() -> None:
    steps = [{"technique": "half_precision"}, {"technique": "finetune", "training": {"epochs": 2}}]
    lower = Suggestion("Train slower", {"training": {"learning_rate": 0.001}})
    errors = [FieldError("/training/epochs", "too many"), FieldError("/dataset_id", "too small")]
    error = CompressionError("E_DIVERGED", "NaN", errors=errors, suggestions=[lower, Suggestion("Give up")])

    record = in_recipe(error, 1, {"steps": steps}).json()

    patched = {"technique": "finetune", "training": {"epochs": 2, "learning_rate": 0.001}}
    assert [e["pointer"] for e in record["errors"]] == ["/recipe/steps/1/training/epochs", "/dataset_id"]
    assert record["suggestions"] == [
        {"title": "Train slower", "patch": {"recipe": {"steps": [steps[0], patched]}}},
        {"title": "Give up"},
    ]


def test_an_inspection_tells_what_techniques_found(api: Api) -> None:
    found = {"static_quantization": {"layers": 3, "macs_share": 0.9}}
    told = _ready(api, MODEL.model_copy(update={"abilities": found}))
    inside: Json = api.client.get(f"/v1/models/{told}/inspection").raise_for_status().json()
    checks = {check["technique"]: check["abilities"] for check in inside["techniques"]}
    assert (checks["static_quantization"], checks["finetune"]) == (found["static_quantization"], {})


def test_inspections_from_before_still_serve(api: Api) -> None:
    model = api.model()
    old = {name: value for name, value in MODEL.model_dump(mode="json").items() if name != "abilities"}
    with api.services.database.write() as connection:
        connection.execute(update(tables.models).values(inspection=old))
    assert api.client.get(f"/v1/models/{model['id']}/inspection").status_code == 200
    body = {"model_id": model["id"], "recipe": {"steps": [{"technique": "half_precision"}]}}
    assert api.client.post("/v1/jobs", json=body).status_code == 202
