"""A job's row, its steps and its first event: written in the caller's transaction."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert

from app.adapters.database import now
from app.adapters.tables import job_models, jobs, steps
from app.domain.ids import new_id
from app.domain.records import Job
from app.domain.states import JobState, StepState
from app.services import transitions
from app.services.orders import Conversion, Order

_COMPUTED = {"artifacts", "cache_hits", "queue_position"}
COLUMNS = [jobs.c[field.name] for field in fields(Job) if field.name not in _COMPUTED]
"""Of a `Job`, in its order."""
# Built once: making a statement costs more than running it.
_INSERT = insert(jobs).values(events=1, message_at=now(), created_at=now()).returning(*COLUMNS, jobs.c.events)
_INSERT_STEP = insert(steps)
_NONE = {"artifact_id": None, "artifact_sha256": None, "search_id": None, "trial": None, "planned": None}


def asked(order: Order | Conversion) -> dict[str, Any]:
    return {
        "formats": list(order.formats),
        "timeout_seconds": order.timeout_seconds,
        "labels": order.labels,
    }


def place(connection: Connection, project_id: str, order: Order) -> Job:
    """The job and its steps."""
    recipe = order.recipe.model_dump(mode="json")
    given: dict[str, Any] = {
        "project_id": project_id,
        "queue": order.target,
        "recipe": recipe,
        **{name: getattr(order, name) for name in _AS_ORDERED},
    }
    created = insert_job(connection, {**given, **asked(order)})
    named = {"project_id": project_id, "job_id": created.id, "state": StepState.PENDING}
    planned = [
        {**named, "index": index, "technique": step["technique"], "parameters": step}
        for index, step in enumerate(recipe["steps"])
    ]
    connection.execute(_INSERT_STEP, planned if len(planned) > 1 else planned[0])
    referred = {identity for step in order.recipe.steps for _, identity in step.references()}
    if referred:
        of_job = {"project_id": project_id, "job_id": created.id}
        connection.execute(
            insert(job_models), [{**of_job, "model_id": identity} for identity in sorted(referred)]
        )
    return created


_AS_ORDERED = ("model_id", "dataset_id", "seed", "cache", "target", "search_id", "trial", "planned")


def insert_job(connection: Connection, given: Mapping[str, Any]) -> Job:
    """The job and its first event."""
    new = {"id": new_id("job"), "state": JobState.QUEUED, "phase": "queued", "outcome_reasons": []}
    row = connection.execute(_INSERT, {**_NONE, **new, **given}).one()
    transitions.append(connection, row, [("job.created", {})])
    return Job(*row[: len(COLUMNS)])
