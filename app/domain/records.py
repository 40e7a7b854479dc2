"""What the services return: detached, frozen copies of rows. Times are milliseconds since 1970, of the
database's clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.domain.states import InspectionState, JobState, SearchState, StepState, UploadState
from compression.inspection import DatasetInspection, ModelInspection

T = TypeVar("T")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    data: Sequence[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    project_id: str
    state: UploadState
    purpose: str
    filename: str
    bytes: int
    sha256: str | None
    created_at: int
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class Inspected:
    """A model or a data set. `sha256` names the normalised bytes, `source_sha256` those uploaded."""

    id: str
    project_id: str
    state: InspectionState
    name: str
    labels: Json
    filename: str
    source_sha256: str
    source_bytes: int
    sha256: str | None
    bytes: int | None
    inspection: Json | None
    error: Json | None
    created_at: int
    ready_at: int | None


@dataclass(frozen=True, slots=True)
class InspectionClaim:
    """A lease on an inspection, with all the worker needs."""

    id: str
    project_id: str
    owner: str
    fence: int
    attempts: int
    filename: str
    source_sha256: str
    source_bytes: int
    options: Json


@dataclass(frozen=True, slots=True)
class Artifact:
    id: str
    project_id: str
    job_id: str
    format: str
    filename: str
    sha256: str
    bytes: int
    bytes_zstd: int | None
    runtime: Json
    provenance: Json
    proof: Json | None
    bundle_sha256: str | None
    bundle_bytes: int | None
    created_at: int

    @property
    def bundle_filename(self) -> str:
        return f"{self.filename}.bundle.zip"


@dataclass(frozen=True, slots=True)
class Step:
    job_id: str
    index: int
    technique: str
    parameters: Json
    state: StepState
    cache_hit: bool
    output_sha256: str | None
    details: Json | None
    inspection: Json | None
    measurements: Json | None
    started_at: int | None
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    project_id: str
    state: JobState
    phase: str
    progress: float
    queue: str
    model_id: str
    dataset_id: str | None
    recipe: Json
    seed: int
    cache: str
    target: str
    timeout_seconds: int
    labels: Json
    formats: Sequence[str]
    failed_formats: Sequence[Json]
    artifact_id: str | None
    """Of a conversion: what is converted."""
    search_id: str | None
    trial: int | None
    """Its number among the trials of the search; None of a job that proves a trial."""
    attempts: int
    outcome: str | None
    outcome_reasons: Sequence[str]
    measurements: Json | None
    environment: Json | None
    error: Json | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    artifacts: Sequence[Artifact] = ()
    cache_hits: Sequence[int] = ()
    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step gave; also what the step cache remembers. `bytes` of the blob named by `sha256`."""

    sha256: str
    bytes: int
    details: Json
    inspection: ModelInspection
    cache_hit: bool = False


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A lease on a job, with all the worker needs. `done` are the steps completed by earlier attempts, in
    order.
    """

    id: str
    project_id: str
    owner: str
    fence: int
    attempts: int
    model_id: str
    model_name: str
    model_sha256: str
    model_inspection: ModelInspection
    data_sha256: str | None
    data_inspection: DatasetInspection | None
    recipe: Json
    seed: int
    cache: str
    target: str
    timeout_seconds: int
    formats: Sequence[str]
    artifact_sha256: str | None
    """Of a conversion: the model to start from; no step is run."""
    search_id: str | None
    trial: int | None
    """A trial learns and is judged on what its search may see of the data set; a proof only learns there."""
    models: Mapping[str, str]
    """Models that steps refer to: id -> sha256 of the normalised bytes."""
    checkpoint_sha256: str | None
    """Left by an earlier attempt at the first step that is not done."""
    done: Sequence[StepOutput]


@dataclass(frozen=True, slots=True)
class Search:
    id: str
    project_id: str
    state: SearchState
    model_id: str
    dataset_id: str | None
    budget: Json
    seed: int
    cache: str
    target: str
    labels: Json
    formats: Sequence[str]
    judged_by: str | None
    """The split that trials are measured on samples of."""
    revision: int
    spent_ms: int
    begun_at: int
    chosen: int | None
    """The trial that is, or was, proved."""
    proof_job_id: str | None
    outcome: str | None
    outcome_reasons: Sequence[str]
    notes: Sequence[str]
    error: Json | None
    created_at: int
    finished_at: int | None
    trials: Mapping[str, int] = field(default_factory=dict)
    """How many there are in each state of a job."""
    cache_hits: int = 0
    """Steps of trials that were not computed again."""
    elapsed_ms: int = 0
    proof: "Job | None" = None


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """A job that tries something: `planned` holds its steps with all their training and the share done."""

    number: int
    job_id: str
    state: JobState
    recipe: Json
    planned: Json
    measurements: Json | None
    error: Json | None
    started_at: int | None
    finished_at: int | None
    steps: Sequence[tuple[float, bool]] = ()
    """Of each that was completed: seconds it took when it was computed, and whether that was earlier."""

    @property
    def cache_hits(self) -> int:
        return sum(reused for _, reused in self.steps)

    @property
    def seconds(self) -> float | None:
        """It took by itself, if it is over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at) / 1000


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file of a finished job; its blob is in the store already."""

    format: str
    filename: str
    sha256: str
    bytes: int
    bytes_zstd: int | None = None
    runtime: Json = field(default_factory=dict)
    """Name and smallest version of what loads it."""
    provenance: Json = field(default_factory=dict)
    proof: Json | None = None
    """How it ran in its own runtime."""
    bundle_sha256: str | None = None
    bundle_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`id` counts from 1 within its job, without gaps."""

    job_id: str
    id: int
    type: str
    timestamp: int
    data: Json


@dataclass(frozen=True, slots=True)
class Worker:
    id: str
    queues: Sequence[str]
    concurrency: int
    hardware: Json
    versions: Json
    sandbox: str
    """Level of isolation found by the start-up self-test: S0 … S3."""
    started_at: int
    seen_at: int
    alive: bool
