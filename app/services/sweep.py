"""What is stranded is found and moved on: expired leases, lost messages, unfinished uploads, bytes that
nobody names.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from sqlalchemy import Table, and_, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from app.adapters import tables
from app.adapters.blobs import BlobStore
from app.adapters.database import Database, now
from app.adapters.notify import Notifier
from app.adapters.queue import Queue, Task
from app.adapters.search_tables import searches
from app.adapters.tables import (
    blobs,
    datasets,
    idempotency_keys,
    job_models,
    jobs,
    models,
    step_cache,
    steps,
    uploads,
)
from app.domain.errors import ErrorRecord, QueueUnavailable
from app.domain.states import OVER, SEARCH_OVER, InspectionState, JobState, UploadState
from app.services import transitions
from app.services.idempotency import KEPT_MS
from app.services.publish import publish
from app.settings import Settings
from compression.errors import ErrorKind

log = structlog.get_logger()
_DAY_MS = 24 * 3600 * 1000
_BLOB_SECONDS = 24 * 3600.0
_CACHE_MS = 30 * _DAY_MS
_MESSAGE_MS = 30_000
_COLLECT_SECONDS = 600
_DROP_SECONDS = 5.0
_BATCH = 500
_GIVEN_UP = ErrorRecord(
    "E_WORKER_LOST",
    "The worker was lost each time it tried, the last attempt that was allowed included.",
    ErrorKind.RESOURCE,
)


@dataclass(frozen=True, slots=True)
class Stranded:
    """A row that waits for a worker and whose message may be lost."""

    task: Task
    id: str
    queue: str
    table: Table


class Sweep:
    def __init__(
        self, settings: Settings, database: Database, store: BlobStore, queue: Queue, notify: Notifier
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._queue = queue
        self._notify = notify
        self._collected = 0.0

    def run(self) -> None:
        """Each 15 s, by any number of workers at once."""
        self._expired_jobs()
        self._expired_inspections(models, "inspect_model")
        self._expired_inspections(datasets, "inspect_dataset")
        self._lost_messages()
        self._stranded_searches()
        if time.monotonic() > self._collected + _COLLECT_SECONDS:
            self.collect()
            self._collected = time.monotonic()

    def collect(self) -> None:
        """What is over and old, and then the bytes that no row names."""
        with self._database.write() as connection:
            connection.execute(
                delete(idempotency_keys).where(idempotency_keys.c.created_at < now() - KEPT_MS)
            )
            unfinished = and_(uploads.c.state == UploadState.PENDING, uploads.c.created_at < now() - _DAY_MS)
            connection.execute(delete(uploads).where(unfinished))
            connection.execute(delete(step_cache).where(step_cache.c.used_at < now() - _CACHE_MS))
            past = select(jobs.c.id).where(jobs.c.state.in_(OVER), jobs.c.finished_at < now() - _DAY_MS)
            connection.execute(
                update(steps)
                .where(steps.c.output_sha256.is_not(None), steps.c.job_id.in_(past))
                .values(output_sha256=None)
            )
            for table, named_by in (
                (models, (jobs.c.model_id, job_models.c.model_id, searches.c.model_id)),
                (datasets, (jobs.c.dataset_id, searches.c.dataset_id)),
            ):
                unused = and_(*(~exists().where(column == table.c.id) for column in named_by))
                connection.execute(delete(table).where(table.c.deleted_at.is_not(None), unused))
        self._orphans()

    def drop(self, project_id: str, sha256: str) -> None:
        """Bytes that nobody needs any more and that were only ever worth keeping for a while: at once, unless
        something else names them.
        """
        if self._forget(and_(blobs.c.project_id == project_id, blobs.c.sha256 == sha256)):
            self._delete(sha256, _DROP_SECONDS)

    def _orphans(self) -> None:
        if self._forget(blobs.c.created_at < now() - _DAY_MS):
            for found in self._store.old(_BLOB_SECONDS):
                self._delete(found.sha256, _BLOB_SECONDS)

    def _forget(self, which: ColumnElement[bool]) -> bool:
        """Removes those of the rows that vouch for bytes which no other row names."""
        named = [
            exists().where(column.table.c.project_id == blobs.c.project_id, column == blobs.c.sha256)
            for column in tables.BLOB_COLUMNS
        ]
        try:
            with self._database.write() as connection:
                connection.execute(delete(blobs).where(which, ~or_(*named)))
        except IntegrityError:
            log.info("sweep.orphan_in_use")  # named meanwhile; the next sweep looks again
            return False
        return True

    def _delete(self, sha256: str, older_than: float) -> None:
        """The bytes, unless a row of any project vouches for them or they were written again meanwhile."""
        with self._database.read() as connection:
            known = connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256).limit(1))
            orphan = known.one_or_none() is None
        if orphan:
            self._store.delete(sha256, older_than=older_than)

    def _expired_jobs(self) -> None:
        expired = jobs.c.lease_until < now()
        with self._database.read() as connection:
            rows = connection.execute(
                select(jobs.c.id, jobs.c.state, jobs.c.attempts, jobs.c.fence, jobs.c.queue)
                .where(jobs.c.state.in_((JobState.RUNNING, JobState.CANCELLING)), expired)
                .limit(_BATCH)
            ).all()
        for row in rows:
            where = (jobs.c.id == row.id) & (jobs.c.fence == row.fence) & expired
            with self._database.write() as connection:
                if row.state is JobState.CANCELLING:
                    moved = transitions.cancel(connection, where)
                elif row.attempts >= self._settings.max_attempts:
                    moved = transitions.fail(connection, where, _GIVEN_UP)
                else:
                    moved = transitions.requeue(connection, where, {}, {"reason": "lease_expired"})
            if moved is None:
                continue
            log.warning("sweep.lease_expired", job_id=row.id, state=moved.state, attempts=row.attempts)
            if moved.state is JobState.QUEUED:
                publish(self._queue, "run_job", row.id, row.queue)
            self._notify.send(row.id)

    def _expired_inspections(self, table: Table, task: Task) -> None:
        expired = and_(table.c.state == InspectionState.PROCESSING, table.c.lease_until < now())
        spent = table.c.attempts >= self._settings.max_attempts
        with self._database.write() as connection:
            rejected = connection.execute(
                update(table)
                .where(expired, spent)
                .values(
                    state=InspectionState.REJECTED, error=_GIVEN_UP.json(), lease_owner=None, lease_until=None
                )
                .returning(table.c.id)
            ).scalars()
            over = list(rejected)
            again = connection.execute(
                update(table)
                .where(expired, ~spent)
                .values(lease_owner=None, lease_until=None, message_at=now())
                .returning(table.c.id)
            ).scalars()
            queued = list(again)
        for identity in queued:
            publish(self._queue, task, identity)
        for identity in over:
            self._notify.send(identity)

    def _stranded_searches(self) -> None:
        """Those of which no job is open, or whose time is up: their message, or the worker that had it, was
        lost.
        """
        going_on = exists().where(
            jobs.c.search_id == searches.c.id,
            or_(jobs.c.trial.is_not(None), jobs.c.id == searches.c.proof_job_id),
            jobs.c.state.not_in(OVER),
        )
        stale = searches.c.message_at < now() - _MESSAGE_MS
        with self._database.write() as connection:
            found = connection.execute(
                update(searches)
                .where(searches.c.state.not_in(SEARCH_OVER), ~going_on, stale)
                .values(message_at=now())
                .returning(searches.c.id, searches.c.target)
            ).all()
        for row in found:
            publish(self._queue, "advance_search", row.id, row.target)

    def _lost_messages(self) -> None:
        """Rows that have waited long, while fewer messages wait than rows: some were lost, and all are sent
        again.
        A message too many costs a look at the row."""
        waiting: dict[str, list[Stranded]] = {}
        for row in self._waiting():
            waiting.setdefault(row.queue, []).append(row)
        for queue, rows in waiting.items():
            try:
                if self._queue.waiting(queue) >= len(rows):
                    continue
                for row in rows:
                    self._queue.put(row.task, row.id, row.queue)
            except QueueUnavailable:
                return
            log.warning("sweep.messages_lost", queue=queue, rows=len(rows))
            self._sent(rows)

    def _waiting(self) -> Iterator[Stranded]:
        """Longest first. More than a batch waits for the next sweep."""
        with self._database.read() as connection:
            stale = jobs.c.message_at < now() - _MESSAGE_MS
            query = select(jobs.c.id, jobs.c.queue).where(jobs.c.state == JobState.QUEUED, stale)
            for row in connection.execute(query.order_by(jobs.c.created_at).limit(_BATCH)):
                yield Stranded("run_job", row.id, row.queue, jobs)
            inspections: list[tuple[Table, Task]] = [(models, "inspect_model"), (datasets, "inspect_dataset")]
            for table, task in inspections:
                idle = and_(table.c.state == InspectionState.PROCESSING, table.c.lease_until.is_(None))
                stale = and_(table.c.message_at < now() - _MESSAGE_MS, table.c.deleted_at.is_(None))
                for identity in connection.execute(
                    select(table.c.id).where(idle, stale).limit(_BATCH)
                ).scalars():
                    yield Stranded(task, identity, "cpu", table)

    def _sent(self, rows: list[Stranded]) -> None:
        with self._database.write() as connection:
            for table in {row.table for row in rows}:
                sent = [row.id for row in rows if row.table is table]
                connection.execute(update(table).where(table.c.id.in_(sent)).values(message_at=now()))
