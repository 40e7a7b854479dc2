"""What a worker is given with a job: all that running it needs."""

import math

from sqlalchemy import Connection, select

from app.adapters.database import AnyRow, now
from app.adapters.search_tables import searches
from app.adapters.tables import blobs, datasets, job_models, models, steps
from app.domain.records import JobClaim, StepOutput
from app.domain.states import StepState
from compression.inspection import DatasetInspection, ModelInspection

_SAME = [
    "id",
    "project_id",
    "fence",
    "attempts",
    "model_id",
    "recipe",
    "seed",
    "cache",
    "target",
    "timeout_seconds",
    "formats",
    "artifact_sha256",
    "search_id",
    "trial",
]


def claim(connection: Connection, row: AnyRow, owner: str) -> JobClaim:
    of = models.c
    model = connection.execute(select(of.name, of.sha256, of.inspection).where(of.id == row.model_id)).one()
    data = connection.execute(
        select(datasets.c.sha256, datasets.c.inspection).where(datasets.c.id == row.dataset_id)
    ).one_or_none()
    done = connection.execute(
        select(steps.c.output_sha256, steps.c.details, steps.c.inspection, steps.c.cache_hit)
        .where(steps.c.job_id == row.id, steps.c.state == StepState.COMPLETED)
        .order_by(steps.c.index)
    ).all()
    referred = connection.execute(
        select(of.id, of.sha256)
        .join(job_models, job_models.c.model_id == of.id)
        .where(job_models.c.job_id == row.id)
    ).all()
    checkpoint = connection.execute(
        select(steps.c.checkpoint_sha256).where(
            steps.c.job_id == row.id, steps.c.project_id == row.project_id, steps.c.index == len(done)
        )
    ).scalar_one_or_none()
    same = {name: getattr(row, name) for name in _SAME}
    if row.trial is not None:
        same["timeout_seconds"] = min(row.timeout_seconds, _left(connection, row))
    return JobClaim(
        owner=owner,
        model_name=model.name,
        model_sha256=model.sha256,
        model_inspection=ModelInspection.model_validate(model.inspection),
        data_sha256=data.sha256 if data else None,
        data_inspection=DatasetInspection.model_validate(data.inspection) if data else None,
        models={row.id: row.sha256 for row in referred},
        checkpoint_sha256=checkpoint,
        done=[output(connection, row.project_id, step, cache_hit=step.cache_hit) for step in done],
        **same,
    )


def _left(connection: Connection, trial: AnyRow) -> int:
    """Seconds of its search, however long the trial has waited for a worker."""
    row = connection.execute(
        select(searches.c.budget, (searches.c.spent_ms + now() - searches.c.begun_at).label("spent")).where(
            searches.c.id == trial.search_id
        )
    ).one()
    left: float = row.budget["seconds"] - row.spent / 1000
    return max(1, math.ceil(left))


def output(connection: Connection, project_id: str, row: AnyRow, *, cache_hit: bool) -> StepOutput:
    size = connection.execute(
        select(blobs.c.bytes).where(blobs.c.project_id == project_id, blobs.c.sha256 == row.output_sha256)
    ).scalar_one()
    inspection = ModelInspection.model_validate(row.inspection)
    return StepOutput(row.output_sha256, size, row.details, inspection, cache_hit)
