from app.adapters import tables
from app.services.inspected import InspectedService, Kind


class ModelService(InspectedService):
    kind = Kind("model", "mdl", tables.models, "inspect_model", tables.jobs.c.model_id)
