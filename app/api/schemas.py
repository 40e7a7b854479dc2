"""The answers, as documented. They are rendered by `render`, and tests hold the two together."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.domain.states import InspectionState, JobState, StepState, UploadState
from compression.export_check import ExportCheck
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import Measurements

T = TypeVar("T")
Labels = dict[str, str]


class View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FieldProblem(View):
    pointer: str = Field(description="RFC 6901 pointer into the body, or `/name` of a parameter")
    detail: str


class WayOut(View):
    title: str
    patch: dict[str, Any] | None = Field(
        default=None, description="JSON merge patch of the request that would help"
    )


class Problem(View):
    """RFC 9457, with members of our own."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="stable; made for programs")
    errors: list[FieldProblem]
    suggestions: list[WayOut]
    retryable: bool = Field(description="whether the same request may pass later")
    request_id: str


class Failure(View):
    """Why a job failed or an upload was rejected: the members of a problem."""

    type: str
    title: str
    detail: str
    code: str
    class_: Literal["input", "unsupported", "resource", "timeout", "infrastructure", "internal"] = Field(
        alias="class"
    )
    errors: list[FieldProblem]
    suggestions: list[WayOut]
    retryable: bool
    step: int | None = Field(description="index of the step that failed")


class Page(View, Generic[T]):
    data: list[T]
    has_more: bool
    next_cursor: str | None = Field(description="give it as `after` to get the next page")


class Upload(View):
    id: str
    state: UploadState
    purpose: Literal["model", "dataset"]
    filename: str
    bytes: int
    sha256: str | None
    content_url: str = Field(description="PUT the bytes here")
    created_at: datetime
    completed_at: datetime | None


class _Inspected(View):
    id: str
    state: InspectionState
    name: str
    labels: Labels
    filename: str
    source_sha256: str = Field(description="of the bytes as uploaded")
    source_bytes: int
    sha256: str | None = Field(description="of the normalised file that jobs work on")
    bytes: int | None
    error: Failure | None
    created_at: datetime
    ready_at: datetime | None


class Model(_Inspected):
    inspection: ModelInspection | None


class Dataset(_Inspected):
    inspection: DatasetInspection | None


class TechniqueCheck(View):
    technique: str
    possible: bool
    reason: str | None
    abilities: dict[str, Any] = Field(
        description="what it found: groups of channels, layers to quantize, shares of MACs and params, …"
    )


class InspectedModel(View):
    inspection: ModelInspection
    techniques: list[TechniqueCheck] = Field(
        description="what each technique, with its defaults, can do with it"
    )


class Technique(View):
    name: str
    version: int
    summary: str
    description: str
    guidance: str = Field(description="when to use it and what it really gains")
    needs: list[Literal["calibration", "labels", "training"]]
    promises: list[Literal["smaller", "smaller_download", "faster"]]
    refuses: dict[str, str] = Field(description="properties of a model it cannot follow, with the reason")
    parameters: dict[str, Any] = Field(description="JSON Schema of a step")


class Artifact(View):
    id: str
    job_id: str
    format: str
    filename: str
    sha256: str
    bytes: int
    bytes_zstd: int | None
    runtime: dict[str, Any]
    provenance: dict[str, Any]
    proof: ExportCheck | None = Field(
        description="how it ran in its own runtime; null for ONNX, which the job's measurements are of"
    )
    content_url: str
    bundle_url: str | None = Field(
        description="a zip of the file, pare.json, a model card and a run.py that needs the bare runtime only"
    )
    bundle_bytes: int | None
    created_at: datetime


class FailedFormat(View):
    format: str
    error: Failure


class Job(View):
    id: str
    state: JobState
    phase: str = Field(description="what is being done now; new phases may appear")
    progress: float
    queue: str
    queue_position: int | None = Field(description="1 is next; null when not queued or far behind")
    model_id: str
    dataset_id: str | None
    recipe: dict[str, Any] = Field(description="with every default written out")
    seed: int
    cache: Literal["use", "refresh", "off"]
    cache_hits: list[int] = Field(description="indices of the steps that were not computed again")
    target: Literal["cpu", "gpu"]
    timeout_seconds: int
    labels: Labels
    formats: list[str] = Field(description="of the artifacts that were asked for")
    failed_formats: list[FailedFormat] = Field(description="those that could not be made, with the reason")
    artifact_id: str | None = Field(description="the artifact that this job converts; null for other jobs")
    search_id: str | None = Field(description="the search that this job is a trial, or a proof, of")
    trial: int | None = Field(description="its number in the search; null of a proof")
    attempts: int = Field(description="since the last completed step")
    outcome: Literal["met", "unmet", "not_requested"] | None
    outcome_reasons: list[str]
    measurements: Measurements | None
    artifacts: list[Artifact]
    environment: dict[str, Any] | None = Field(description="versions, hardware and isolation it ran with")
    error: Failure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Step(View):
    index: int
    technique: str
    parameters: dict[str, Any]
    state: StepState
    cache_hit: bool
    output_sha256: str | None
    details: dict[str, Any] | None
    inspection: ModelInspection | None
    measurements: Measurements | None = Field(
        description="of the model after this step, beside the original; measured when the job ends"
    )
    started_at: datetime | None
    completed_at: datetime | None


class Steps(View):
    data: list[Step]


class Report(Job):
    steps: list[Step]


class Event(View):
    id: int = Field(description="counts from 1 within the job, without gaps")
    type: str
    timestamp: datetime
    data: dict[str, Any]


class Events(View):
    data: list[Event]
    has_more: bool
    next_cursor: str | None = Field(description="give it as `after`")


class Worker(View):
    id: str
    alive: bool
    queues: list[str]
    concurrency: int
    hardware: dict[str, Any]
    versions: dict[str, Any]
    sandbox: str
    started_at: datetime
    seen_at: datetime


class Workers(View):
    data: list[Worker]


class FormatKind(View):
    title: str
    names: list[str] = Field(description="as `format` says in an inspection or an artifact")
    files: list[str] = Field(description="endings of names that come in; the name of a file that goes out")
    available: bool = Field(description="whether a living worker has all that it needs")
    install: str | None = Field(description="what to install on a worker to get it")


class Capabilities(View):
    version: str
    techniques: list[str]
    model_formats: list[FormatKind]
    dataset_formats: list[FormatKind]
    artifact_formats: list[FormatKind]
    targets: list[str] = Field(description="those a living worker serves")
    limits: dict[str, int]


class Health(View):
    status: Literal["ok"]
    version: str


class Readiness(View):
    ready: bool
    checks: dict[str, bool]
