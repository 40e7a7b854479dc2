"""The tables; every row belongs to a project."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from app.adapters.columns import blob, created, lease, metadata, project
from app.adapters.database import Json, State
from app.adapters.search_tables import searches
from app.domain.states import InspectionState, JobState, StepState, UploadState

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    created(),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    project(),
    Column("name", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("revoked_at", BigInteger),
    created(),
)

blobs = Table(
    "blobs",
    metadata,
    project(),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    created(),
    PrimaryKeyConstraint("project_id", "sha256"),
    Index("ix_blobs_sha256", "sha256"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    project(),
    Column("state", State(UploadState), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text),
    Column("blob_sha256", Text),
    created(),
    Column("completed_at", BigInteger),
    blob("blob_sha256"),
    Index("ix_uploads_created_at", "created_at"),
    Index("ix_uploads_project_id_blob_sha256", "project_id", "blob_sha256"),
)


def _inspected(name: str, *more: Column[str]) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Text, primary_key=True),
        project(),
        Column("state", State(InspectionState), nullable=False),
        Column("name", Text, nullable=False),
        Column("labels", Json, nullable=False),
        Column("filename", Text, nullable=False),
        # what the owner says of the upload
        Column("options", Json, nullable=False, server_default="{}"),
        # both digests go when the row is deleted: its bytes are free, finished jobs still name it
        Column("source_sha256", Text),
        Column("source_bytes", BigInteger, nullable=False),
        Column("sha256", Text),
        Column("bytes", BigInteger),
        Column("inspection", Json),
        Column("error", Json),
        *more,
        *lease(),
        created(),
        Column("ready_at", BigInteger),
        Column("deleted_at", BigInteger),
        blob("source_sha256"),
        blob("sha256"),
        Index(f"ix_{name}_project_id_created_at_id", "project_id", "created_at", "id"),
        Index(f"ix_{name}_state_message_at", "state", "message_at"),
        Index(f"ix_{name}_project_id_source_sha256", "project_id", "source_sha256"),
        Index(f"ix_{name}_project_id_sha256", "project_id", "sha256"),
    )


models = _inspected("models")
datasets = _inspected("datasets", Column("preview", Json))

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    project(),
    Column("state", State(JobState), nullable=False),
    Column("phase", Text, nullable=False),
    Column("progress", Float, nullable=False, server_default="0"),
    Column("queue", Text, nullable=False),
    Column("model_id", Text, ForeignKey("models.id"), nullable=False),
    Column("dataset_id", Text, ForeignKey("datasets.id")),
    Column("recipe", Json, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("cache", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    Column("labels", Json, nullable=False),
    Column("formats", Json, nullable=False, server_default='["onnx"]'),
    Column("failed_formats", Json, nullable=False, server_default="[]"),
    # of a conversion: what it starts from, instead of the steps that made it
    Column("artifact_id", Text),
    Column("artifact_sha256", Text),
    # of a search: all its jobs name it, trials have a number and what was planned
    Column("search_id", Text, ForeignKey(searches.c.id)),
    Column("trial", Integer),
    Column("planned", Json),
    Column("outcome", Text),
    Column("outcome_reasons", Json, nullable=False),
    Column("measurements", Json),
    Column("environment", Json),
    Column("error", Json),
    Column("events", Integer, nullable=False, server_default="0"),
    *lease(),
    created(),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    blob("artifact_sha256"),
    Index("ix_jobs_project_id_artifact_sha256", "project_id", "artifact_sha256"),
    Index("ix_jobs_project_id_created_at_id", "project_id", "created_at", "id"),
    Index("ix_jobs_queue_state_created_at_id", "queue", "state", "created_at", "id"),
    Index("ix_jobs_model_id", "model_id"),
    Index("ix_jobs_dataset_id", "dataset_id"),
    Index("ix_jobs_search_id_trial", "search_id", "trial", unique=True),
)

steps = Table(
    "steps",
    metadata,
    project(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("technique", Text, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("state", State(StepState), nullable=False),
    Column("cache_hit", Boolean, nullable=False, server_default="0"),
    Column("output_sha256", Text),
    # of a step that trains: where the next attempt goes on
    Column("checkpoint_sha256", Text),
    Column("details", Json),
    Column("inspection", Json),
    Column("measurements", Json),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    PrimaryKeyConstraint("job_id", "index"),
    blob("output_sha256"),
    blob("checkpoint_sha256"),
    Index("ix_steps_project_id_output_sha256", "project_id", "output_sha256"),
    Index("ix_steps_project_id_checkpoint_sha256", "project_id", "checkpoint_sha256"),
)

job_models = Table(
    "job_models",
    metadata,
    project(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("model_id", Text, ForeignKey("models.id"), nullable=False),
    PrimaryKeyConstraint("job_id", "model_id"),
    Index("ix_job_models_model_id", "model_id"),
)
"""Models that a job's steps refer to, besides its own."""

events = Table(
    "events",
    metadata,
    project(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("id", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("data", Json, nullable=False),
    PrimaryKeyConstraint("job_id", "id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Text, primary_key=True),
    project(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("format", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("bytes_zstd", BigInteger),
    Column("runtime", Json, nullable=False),
    Column("provenance", Json, nullable=False),
    Column("proof", Json),
    Column("bundle_sha256", Text),
    Column("bundle_bytes", BigInteger),
    created(),
    blob("sha256"),
    blob("bundle_sha256"),
    Index("ix_artifacts_job_id", "job_id"),
    Index("ix_artifacts_project_id_sha256", "project_id", "sha256"),
    Index("ix_artifacts_project_id_bundle_sha256", "project_id", "bundle_sha256"),
)

step_cache = Table(
    "step_cache",
    metadata,
    project(),
    Column("key", Text, nullable=False),
    Column("output_sha256", Text, nullable=False),
    Column("details", Json, nullable=False),
    Column("inspection", Json, nullable=False),
    created(),
    Column("used_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("project_id", "key"),
    blob("output_sha256"),
    Index("ix_step_cache_project_id_output_sha256", "project_id", "output_sha256"),
    Index("ix_step_cache_used_at", "used_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    project(),
    Column("api_key_id", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("location", Text),
    Column("body", Text, nullable=False),
    created(),
    PrimaryKeyConstraint("project_id", "api_key_id", "route", "key"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    # null: the worker serves every project
    Column("project_id", Text, ForeignKey("projects.id")),
    Column("queues", Json, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("hardware", Json, nullable=False),
    Column("versions", Json, nullable=False),
    Column("sandbox", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

BLOB_COLUMNS = (
    uploads.c.blob_sha256,
    models.c.source_sha256,
    models.c.sha256,
    datasets.c.source_sha256,
    datasets.c.sha256,
    steps.c.output_sha256,
    steps.c.checkpoint_sha256,
    jobs.c.artifact_sha256,
    artifacts.c.sha256,
    artifacts.c.bundle_sha256,
    step_cache.c.output_sha256,
)
"""Everything that keeps bytes from being swept."""
