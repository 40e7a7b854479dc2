"""What a good engineer would do with a model: inspections and finished jobs in, advice out."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import bindparam, select

from app.adapters.database import Database
from app.adapters.tables import jobs, steps
from app.domain.errors import Conflict, Invalid
from app.domain.records import Inspected
from app.domain.states import InspectionState, JobState
from app.services.datasets import DatasetService
from app.services.models import ModelService
from app.services.workers import seats
from compression.advice import Advice, Asked, Run, advise
from compression.errors import FieldError, Suggestion
from compression.fit import misfits
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import Measurements

_JOBS = 50
"""The newest ones are looked at."""
_FINISHED = (
    select(jobs.c.id, jobs.c.dataset_id)
    .where(
        jobs.c.project_id == bindparam("project"),
        jobs.c.model_id == bindparam("model"),
        jobs.c.target == bindparam("target"),
        jobs.c.state == JobState.SUCCEEDED,
        jobs.c.artifact_id.is_(None),
        jobs.c.trial.is_(None),
    )
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    .limit(_JOBS)
)
"""Trials are left out: they train less than their recipe says, and are judged on other samples."""
_STEPS = (
    select(steps.c.job_id, steps.c.parameters, steps.c.measurements)
    .where(steps.c.project_id == bindparam("project"))
    .where(steps.c.job_id.in_(bindparam("jobs", expanding=True)))
    .order_by(steps.c.job_id, steps.c.index)
)


class AdviceService:
    def __init__(self, database: Database, models: ModelService, datasets: DatasetService) -> None:
        self._database = database
        self._models = models
        self._datasets = datasets

    def advise(self, project_id: str, asked: Asked) -> Advice:
        """Errors: NotFound; Conflict `…_not_ready`, `…_rejected`; Invalid `dataset_misfit`, `no_worker`."""
        found = _ready("model", self._models.get(project_id, asked.model_id))
        model, data = ModelInspection.model_validate(found), None
        if asked.dataset_id is not None:
            found = _ready("dataset", self._datasets.get(project_id, asked.dataset_id))
            data = DatasetInspection.model_validate(found)
            if errors := misfits(model, data):
                raise Invalid("dataset_misfit", "The data set does not fit the inputs of the model.", errors)
        return advise(asked, model, data, self._runs(project_id, asked))

    def _runs(self, project_id: str, asked: Asked) -> list[Run]:
        """Newest first. Errors: Invalid `no_worker`."""
        wanted = {"project": project_id, "model": asked.model_id, "target": asked.target}
        with self._database.read() as connection:
            if not seats(connection, asked.target):
                raise _no_worker(asked.target)
            rows = connection.execute(_FINISHED, wanted).all()
            given = {"project": project_id, "jobs": [row.id for row in rows]}
            done = connection.execute(_STEPS, given).all() if rows else []
        by_job: dict[str, list[tuple[Any, Any]]] = {}
        for step in done:
            by_job.setdefault(step.job_id, []).append((step.parameters, step.measurements))
        return [
            Run(row.id, row.dataset_id == asked.dataset_id, measured)
            for row in rows
            if (measured := _measured(by_job.get(row.id, ())))
        ]


def _measured(
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]],
) -> list[tuple[Mapping[str, Any], Measurements]]:
    """As far as it is known what each step gave, and was stored as it is stored today."""
    found = []
    for parameters, stored in rows:
        try:
            found.append((parameters, Measurements.model_validate(stored)))
        except ValidationError:
            break
    return found


def _ready(word: str, found: Inspected) -> Any:
    """Its inspection."""
    where = f"GET /v1/{word}s/{found.id}"
    match found.state:
        case InspectionState.READY:
            return found.inspection
        case InspectionState.PROCESSING:
            way = Suggestion(f"Wait for it: {where}?wait=30, then ask again")
            raise Conflict(f"{word}_not_ready", f"The {word} is still being inspected.", way)
        case _:
            raise Conflict(f"{word}_rejected", f"The {word} was rejected.", Suggestion(f"{where} says why"))


def _no_worker(target: str) -> Invalid:
    at = [FieldError("/target", f"no living worker serves {target}")]
    ways = [Suggestion("Ask for the processor: target=cpu")] if target != "cpu" else []
    ways.append(Suggestion(f"Start a worker for it; GET /v1/workers lists those that serve {target}"))
    return Invalid("no_worker", "No worker could run what is advised.", at, *ways)
