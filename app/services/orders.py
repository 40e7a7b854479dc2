"""What a client orders, and everything that is checked before a job exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Table, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.database import AnyRow
from app.adapters.tables import artifacts, datasets, jobs, models
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.records import Artifact
from app.domain.states import InspectionState
from app.services.artifacts import COLUMNS
from app.services.workers import seats
from compression.errors import CompressionError, FieldError, Suggestion
from compression.fit import misfits
from compression.inspection import DatasetInspection, ModelInspection
from compression.recipe import Recipe
from compression.search.budget import Budget, labelled, source
from compression.search.space import refusals, space


def _is(table: Table) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.id == bindparam("id"),
        table.c.project_id == bindparam("project"),
        table.c.deleted_at.is_(None),
    )


# Built once: making a statement costs more than running it. The row is locked against deletion.
_LOOK = {
    table: select(table.c.state, table.c.inspection).where(*_is(table)).with_for_update(read=True)
    for table in (models, datasets)
}


_ARTIFACT = select(*COLUMNS).where(
    artifacts.c.id == bindparam("id"), artifacts.c.project_id == bindparam("project")
)


@dataclass(frozen=True, slots=True)
class Order:
    model_id: str
    dataset_id: str | None
    recipe: Recipe
    seed: int = 0
    cache: Literal["use", "refresh", "off"] = "use"
    target: Literal["cpu", "gpu"] = "cpu"
    timeout_seconds: int = 3600
    labels: Mapping[str, str] = field(default_factory=dict)
    formats: Sequence[str] = ("onnx",)
    search_id: str | None = None
    trial: int | None = None
    planned: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """An artifact in other formats, later."""

    artifact_id: str
    formats: Sequence[str]
    timeout_seconds: int = 3600
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchOrder:
    model_id: str
    dataset_id: str | None
    budget: Budget
    seed: int = 0
    cache: Literal["use", "refresh", "off"] = "use"
    target: Literal["cpu", "gpu"] = "cpu"
    labels: Mapping[str, str] = field(default_factory=dict)
    formats: Sequence[str] = ("onnx",)


def check(connection: Connection, project_id: str, order: Order) -> None:
    """Errors: NotFound; Conflict `…_not_ready`, `…_rejected`; Invalid `recipe_refused` with a pointer for
    each reason.
    """
    model = _model(connection, project_id, order.model_id)
    data = _dataset(connection, project_id, order.dataset_id)
    errors = [*order.recipe.check(model, data), *_references(connection, project_id, order.recipe, model)]
    if errors:
        detail = "These steps cannot run on this model and data set."
        raise Invalid("recipe_refused", detail, errors, *order.recipe.ways_out(data))
    if data is not None and (errors := misfits(model, data)):
        raise Invalid("dataset_misfit", "The data set does not fit the inputs of the model.", errors)


def check_search(connection: Connection, project_id: str, order: SearchOrder) -> tuple[Budget, str | None]:
    """The budget with nothing left open, and the split that trials are judged by.

    Errors: NotFound; Conflict `…_not_ready`, `…_rejected`; Invalid `budget_refused`, `dataset_misfit`,
    `no_worker`, `nothing_to_try`.
    """
    model = _model(connection, project_id, order.model_id)
    data = _dataset(connection, project_id, order.dataset_id)
    if order.budget.max_metric_drop is not None and not labelled(data):
        raise _no_metric()
    if errors := order.budget.contradictions(model):
        raise Invalid("budget_refused", "No model can keep to this budget, or every one does.", errors)
    if data is not None and (errors := misfits(model, data)):
        raise Invalid("dataset_misfit", "The data set does not fit the inputs of the model.", errors)
    if not seats(connection, order.target):
        way = Suggestion("Search for the processor", {"target": "cpu"}) if order.target != "cpu" else None
        at = [FieldError("/target", f"no living worker serves {order.target}")]
        raise Invalid("no_worker", "No worker could run a trial.", at, *filter(None, [way]))
    budget = order.budget.settled(data)
    if space(model, data, budget).empty:
        reasons = [FieldError("/model_id", why) for why in refusals(model, data)]
        raise Invalid(
            "nothing_to_try", "No technique helps this model with what the budget asks for.", reasons[:20]
        )
    return budget, source(data)


def _no_metric() -> Invalid:
    why = (
        "no metric can be measured: labels are needed, in a train or calibration split and in the test split"
    )
    way = Suggestion(
        "Limit what the model decides otherwise than the original instead",
        {"budget": {"max_metric_drop": None, "min_agreement": 0.98}},
    )
    return Invalid(
        "budget_refused", "The budget asks for a metric.", [FieldError("/budget/max_metric_drop", why)], way
    )


def check_conversion(connection: Connection, project_id: str, order: Conversion) -> tuple[Artifact, AnyRow]:
    """The artifact, and the row of the job that made it: its model and data set are needed for the proof.

    Errors: NotFound; Conflict `artifact_not_onnx`.
    """
    found = connection.execute(_ARTIFACT, {"id": order.artifact_id, "project": project_id}).one_or_none()
    if found is None:
        raise NotFound("artifact", order.artifact_id)
    artifact = Artifact(*found)
    if artifact.format != "onnx":
        way = Suggestion(f"Convert the ONNX artifact of the same job: GET /v1/jobs/{artifact.job_id}")
        raise Conflict("artifact_not_onnx", f"This artifact is {artifact.format} already.", way)
    made_by = connection.execute(select(jobs).where(jobs.c.id == artifact.job_id)).one()
    _model(connection, project_id, made_by.model_id)
    _dataset(connection, project_id, made_by.dataset_id)
    return artifact, made_by


def _dataset(connection: Connection, project_id: str, identity: str | None) -> DatasetInspection | None:
    if identity is None:
        return None
    found = _ready(connection, datasets, "dataset", project_id, identity)
    return DatasetInspection.model_validate(found)


def _references(
    connection: Connection, project_id: str, recipe: Recipe, model: ModelInspection
) -> list[FieldError]:
    """Why the models that steps refer to do not go with the job's. Errors: as `check`, with a pointer."""
    found = []
    for index, step in enumerate(recipe.steps):
        for field_name, identity in step.references():
            pointer = f"/recipe/steps/{index}/{field_name}"
            try:
                referred = _model(connection, project_id, identity)
            except CompressionError as error:
                error.errors = [FieldError(pointer, error.detail)]
                raise
            reason = step.check_reference(field_name, model, referred)
            if reason is not None:
                found.append(FieldError(pointer, reason))
    return found


def _model(connection: Connection, project_id: str, identity: str) -> ModelInspection:
    return ModelInspection.model_validate(_ready(connection, models, "model", project_id, identity))


def _ready(connection: Connection, table: Table, word: str, project_id: str, identity: str) -> Any:
    row = connection.execute(_LOOK[table], {"id": identity, "project": project_id}).one_or_none()
    if row is None:
        raise NotFound(word, identity)
    if row.state is not InspectionState.READY:
        raise _not_ready(row, word, identity)
    return row.inspection


def _not_ready(row: AnyRow, word: str, identity: str) -> Conflict:
    where = f"GET /v1/{word}s/{identity}"
    if row.state is InspectionState.PROCESSING:
        way = Suggestion(f"Wait for it: {where}?wait=30, then send the job again")
        return Conflict(f"{word}_not_ready", f"The {word} is still being inspected.", way)
    return Conflict(f"{word}_rejected", f"The {word} was rejected.", Suggestion(f"{where} says why"))
