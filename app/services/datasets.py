from app.adapters import tables
from app.services.inspected import InspectedService, Kind


class DatasetService(InspectedService):
    kind = Kind(
        "dataset",
        "dst",
        tables.datasets,
        "inspect_dataset",
        lambda identity: tables.jobs.c.dataset_id == identity,
    )
