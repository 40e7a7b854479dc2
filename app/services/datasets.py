from typing import Any

from sqlalchemy import select

from app.adapters import tables
from app.domain.errors import Conflict
from app.domain.states import InspectionState
from app.services.inspected import InspectedService, Kind


class DatasetService(InspectedService):
    kind = Kind(
        "dataset",
        "dst",
        tables.datasets,
        "inspect_dataset",
        lambda identity: tables.jobs.c.dataset_id == identity,
    )

    def preview(self, project_id: str, identity: str) -> Any:
        """As JSON; None where there is none. Errors: NotFound; Conflict `dataset_not_ready`."""
        if (state := self.get(project_id, identity).state) is not InspectionState.READY:
            raise Conflict("dataset_not_ready", f"The data set is {state}.")
        table = tables.datasets
        with self._database.read() as connection:
            return connection.execute(
                select(table.c.preview).where(*self._is(project_id, identity))
            ).scalar_one_or_none()
