from sqlalchemy import exists, or_
from sqlalchemy.sql.elements import ColumnElement

from app.adapters import tables
from app.services.inspected import InspectedService, Kind


def _used_by(model_id: str) -> ColumnElement[bool]:
    """As the job's own model, or as one that a step refers to."""
    jobs, others = tables.jobs.c, tables.job_models.c
    return or_(
        jobs.model_id == model_id, exists().where(others.job_id == jobs.id, others.model_id == model_id)
    )


class ModelService(InspectedService):
    kind = Kind("model", "mdl", tables.models, "inspect_model", _used_by)
