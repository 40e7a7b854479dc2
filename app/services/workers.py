"""Workers announce what they are and that they live."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, select, update

from app.adapters.database import Database, now
from app.adapters.tables import workers
from app.domain.ids import new_id
from app.domain.records import Json, Worker

SEEN_MS = 60_000
FORGOTTEN_MS = 24 * 3600 * 1000
_COLUMNS = [workers.c[field.name] for field in fields(Worker) if field.name != "alive"]


@dataclass(frozen=True, slots=True)
class Announcement:
    queues: Sequence[str]
    concurrency: int
    hardware: Json
    versions: Json
    sandbox: str


def seats(connection: Connection, queue: str) -> int:
    """Jobs of a queue that the living workers run at once."""
    living = connection.execute(
        select(workers.c.queues, workers.c.concurrency).where(workers.c.seen_at > now() - SEEN_MS)
    )
    return sum(row.concurrency for row in living if queue in row.queues)


class WorkerService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, announced: Announcement) -> str:
        """The worker's id for as long as its process lives."""
        identity = new_id("wrk")
        with self._database.write() as connection:
            connection.execute(
                workers.insert().values(
                    id=identity,
                    queues=announced.queues,
                    concurrency=announced.concurrency,
                    hardware=announced.hardware,
                    versions=announced.versions,
                    sandbox=announced.sandbox,
                    started_at=now(),
                    seen_at=now(),
                )
            )
        return identity

    def heartbeat(self, worker_id: str) -> bool:
        """At least each 30 s. False: forgotten, register again."""
        with self._database.write() as connection:
            seen = connection.execute(update(workers).where(workers.c.id == worker_id).values(seen_at=now()))
        return bool(seen.rowcount)

    def gone(self, worker_id: str) -> None:
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker_id))

    def list(self, project_id: str) -> Sequence[Worker]:
        """Those that serve this project, newest first."""
        serves = workers.c.project_id.is_(None) | (workers.c.project_id == project_id)
        with self._database.read() as connection:
            columns: list[Any] = [*_COLUMNS, (workers.c.seen_at > now() - SEEN_MS).label("alive")]
            known = serves & (workers.c.seen_at > now() - FORGOTTEN_MS)
            rows = connection.execute(select(*columns).where(known).order_by(workers.c.id.desc()))
            return [Worker(*row) for row in rows]

    def serves(self, queue: str) -> bool:
        """Whether a living worker takes messages from there."""
        with self._database.read() as connection:
            return seats(connection, queue) > 0

    def seen(self) -> bool:
        """Whether any worker lives."""
        with self._database.read() as connection:
            found = connection.execute(
                select(workers.c.id).where(workers.c.seen_at > now() - SEEN_MS).limit(1)
            )
            return found.one_or_none() is not None
