"""Models and data sets: both are uploads that a worker inspects once, under a lease, and that never change
afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Table, and_, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.adapters import tables
from app.adapters.blobs import Blob
from app.adapters.database import AnyRow, Database, now
from app.adapters.notify import Notifier
from app.adapters.queue import Queue, Task
from app.adapters.search_tables import searches
from app.domain.errors import Conflict, ErrorRecord, LeaseLost, NotFound
from app.domain.ids import new_id
from app.domain.records import Inspected, InspectionClaim, Page
from app.domain.states import OVER, SEARCH_OVER, InspectionState, UploadState
from app.services.idempotency import Record, unrecorded
from app.services.publish import publish
from app.services.rows import Cut, keep_blob, page
from app.settings import Settings
from compression.dataset_preview import DatasetPreview
from compression.errors import Suggestion
from compression.inspection import DatasetInspection, ModelInspection


@dataclass(frozen=True)
class Kind:
    """What tells models from data sets."""

    word: str
    prefix: str
    table: Table
    task: Task
    used_by: Callable[[str], ColumnElement[bool]]
    """Which jobs use the one with this id."""


@dataclass(frozen=True, slots=True)
class Registration:
    upload_id: str
    name: str | None = None
    labels: Mapping[str, str] | None = None
    options: Mapping[str, Any] | None = None
    """What a loader of its format is told."""


class InspectedService:
    kind: Kind

    def __init__(self, settings: Settings, database: Database, queue: Queue, notify: Notifier) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._notify = notify
        self._columns = [self.kind.table.c[field.name] for field in fields(Inspected)]

    def register(
        self, project_id: str, order: Registration, record: Record[Inspected] = unrecorded
    ) -> Inspected:
        """Errors: NotFound; Conflict `upload_incomplete`, `purpose_mismatch`."""
        with self._database.write() as connection:
            upload = self._upload(connection, project_id, order.upload_id)
            identity = new_id(self.kind.prefix)
            values = {
                "id": identity,
                "project_id": project_id,
                "state": InspectionState.PROCESSING,
                "name": order.name or upload.filename,
                "labels": order.labels or {},
                "filename": upload.filename,
                "options": order.options or {},
                "source_sha256": upload.blob_sha256,
                "source_bytes": upload.bytes,
                "message_at": now(),
                "created_at": now(),
            }
            row = connection.execute(
                self.kind.table.insert().values(**values).returning(*self._columns)
            ).one()
            created = Inspected(*row)
            record(connection, created)
        publish(self._queue, self.kind.task, identity)
        return created

    def get(self, project_id: str, identity: str) -> Inspected:
        with self._database.read() as connection:
            row = connection.execute(
                self._of(project_id).where(self.kind.table.c.id == identity)
            ).one_or_none()
        if row is None:
            raise NotFound(self.kind.word, identity)
        return Inspected(*row)

    def list(self, project_id: str, cut: Cut, state: InspectionState | None = None) -> Page[Inspected]:
        query = self._of(project_id)
        if state is not None:
            query = query.where(self.kind.table.c.state == state)
        with self._database.read() as connection:
            return page(connection, query, self.kind.table, cut, lambda row: Inspected(*row))

    def change(
        self,
        project_id: str,
        identity: str,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Inspected:
        given = {"name": name, "labels": labels}
        values = {field: value for field, value in given.items() if value is not None}
        if not values:
            return self.get(project_id, identity)
        with self._database.write() as connection:
            row = connection.execute(
                update(self.kind.table)
                .where(*self._is(project_id, identity))
                .values(**values)
                .returning(*self._columns)
            ).one_or_none()
        if row is None:
            raise NotFound(self.kind.word, identity)
        return Inspected(*row)

    def delete(self, project_id: str, identity: str) -> None:
        """Errors: NotFound; Conflict `in_use` while a job or a search that is not over uses it."""
        with self._database.write() as connection:
            self._check_unused(connection, project_id, identity)
            gone = connection.execute(
                update(self.kind.table)
                .where(*self._is(project_id, identity))
                .values(deleted_at=now(), source_sha256=None, sha256=None, fence=self.kind.table.c.fence + 1)
            )
        if not gone.rowcount:
            raise NotFound(self.kind.word, identity)

    def claim(self, identity: str, owner: str) -> InspectionClaim | None:
        """None: it is done, deleted, given up, or somebody else holds the lease."""
        table = self.kind.table
        names = [field.name for field in fields(InspectionClaim) if field.name != "owner"]
        free = or_(table.c.lease_until.is_(None), table.c.lease_until < now())
        with self._database.write() as connection:
            row = connection.execute(
                update(table)
                .where(
                    table.c.id == identity,
                    table.c.state == InspectionState.PROCESSING,
                    table.c.deleted_at.is_(None),
                    table.c.attempts < self._settings.max_attempts,
                    free,
                )
                .values(
                    lease_owner=owner,
                    lease_until=now() + self._settings.lease_seconds * 1000,
                    fence=table.c.fence + 1,
                    attempts=table.c.attempts + 1,
                )
                .returning(*(table.c[name] for name in names))
            ).one_or_none()
        return None if row is None else InspectionClaim(owner=owner, **row._asdict())

    def heartbeat(self, claim: InspectionClaim) -> bool:
        """Extends the lease; False: it is lost, and nothing of this worker counts any more."""
        until = now() + self._settings.lease_seconds * 1000
        with self._database.write() as connection:
            kept = connection.execute(
                update(self.kind.table).where(self._held(claim)).values(lease_until=until)
            )
        return bool(kept.rowcount)

    def ready(
        self,
        claim: InspectionClaim,
        blob: Blob,
        inspection: ModelInspection | DatasetInspection,
        preview: DatasetPreview | None = None,
    ) -> None:
        """`blob` names the normalised bytes, in the store already. Errors: LeaseLost."""
        values = {
            "state": InspectionState.READY,
            "sha256": blob.sha256,
            "bytes": blob.bytes,
            "inspection": inspection,
            "ready_at": now(),
        }
        if preview is not None:
            values["preview"] = preview
        with self._database.write() as connection:
            keep_blob(self._database, connection, claim.project_id, blob)
            self._effect(connection, claim, values)
        self._notify.send(claim.id)

    def rejected(self, claim: InspectionClaim, error: ErrorRecord) -> None:
        """Errors: LeaseLost."""
        with self._database.write() as connection:
            self._effect(connection, claim, {"state": InspectionState.REJECTED, "error": error.json()})
        self._notify.send(claim.id)

    def release(self, claim: InspectionClaim) -> None:
        """Given back by a draining worker; the attempt is not charged. Errors: LeaseLost."""
        self._requeue(claim, {"attempts": self.kind.table.c.attempts - 1})

    def retry(self, claim: InspectionClaim) -> None:
        """After a failure of ours; the attempt stays charged. Errors: LeaseLost."""
        self._requeue(claim, {})

    def _check_unused(self, connection: Connection, project_id: str, identity: str) -> None:
        jobs = tables.jobs.c
        named = searches.c[f"{self.kind.word.replace(' ', '')}_id"] == identity
        by_job = select(jobs.id).where(
            jobs.project_id == project_id, self.kind.used_by(identity), jobs.state.not_in(OVER)
        )
        by_search = select(searches.c.id).where(
            searches.c.project_id == project_id, named, searches.c.state.not_in(SEARCH_OVER)
        )
        for word, path, query in (("job", "jobs", by_job), ("search", "searches", by_search)):
            used = connection.execute(query.limit(1)).scalar_one_or_none()
            if used is not None:
                way = Suggestion(f"Cancel the {word}: POST /v1/{path}/{used}/cancel")
                raise Conflict("in_use", f"The {word} {used} uses it.", way)

    def hand_over(self, claim: InspectionClaim, queue: str) -> None:
        """To workers that can read such a file; the attempt is not charged. Should the message be lost, the
        sweep sends another to the workers that any upload goes to. Errors: LeaseLost.
        """
        self._requeue(claim, {"attempts": self.kind.table.c.attempts - 1}, queue)

    def _requeue(self, claim: InspectionClaim, values: Mapping[str, Any], queue: str = "cpu") -> None:
        with self._database.write() as connection:
            self._effect(connection, claim, {**values, "message_at": now()})
        publish(self._queue, self.kind.task, claim.id, queue)

    def _effect(self, connection: Connection, claim: InspectionClaim, values: Mapping[str, Any]) -> None:
        done = connection.execute(
            update(self.kind.table)
            .where(self._held(claim))
            .values(lease_owner=None, lease_until=None, **values)
        )
        if not done.rowcount:
            raise LeaseLost(claim.id)

    def _held(self, claim: InspectionClaim) -> ColumnElement[bool]:
        table = self.kind.table.c
        return and_(
            table.id == claim.id,
            table.project_id == claim.project_id,
            table.fence == claim.fence,
            table.lease_owner == claim.owner,
            table.state == InspectionState.PROCESSING,
        )

    def _of(self, project_id: str) -> Any:
        table = self.kind.table
        return select(*self._columns).where(table.c.project_id == project_id, table.c.deleted_at.is_(None))

    def _is(self, project_id: str, identity: str) -> tuple[ColumnElement[bool], ...]:
        table = self.kind.table.c
        return table.id == identity, table.project_id == project_id, table.deleted_at.is_(None)

    def _upload(self, connection: Connection, project_id: str, upload_id: str) -> AnyRow:
        uploads = tables.uploads.c
        upload = connection.execute(
            select(
                uploads.state, uploads.filename, uploads.purpose, uploads.bytes, uploads.blob_sha256
            ).where(uploads.id == upload_id, uploads.project_id == project_id)
        ).one_or_none()
        if upload is None:
            raise NotFound("upload", upload_id)
        if upload.state != UploadState.COMPLETED:
            way = Suggestion(f"Send the bytes first: PUT /v1/uploads/{upload_id}/content")
            raise Conflict("upload_incomplete", "The bytes of this upload have not arrived.", way)
        if upload.purpose != self.kind.word.replace(" ", ""):
            raise Conflict("purpose_mismatch", f"This upload was announced as a {upload.purpose}.")
        return upload
