"""Idempotency keys: the answer to a POST is written in the transaction that did its work, so both exist or neither."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select

from app.adapters.database import Database, now
from app.adapters.tables import idempotency_keys as table
from app.domain.errors import Conflict, Invalid
from compression.errors import Suggestion

T = TypeVar("T")
Record = Callable[[Connection, T], None]
"""Called by a service inside its transaction with what the answer will be made of."""
KEPT_MS = 24 * 3600 * 1000


def unrecorded(_connection: Connection, _result: Any) -> None:
    """For callers without an Idempotency-Key."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request that must take effect once. `fingerprint` tells another body under the same key."""

    project_id: str
    api_key_id: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str
    location: str | None = None


class AlreadyDone(Exception):  # noqa: N818  not an error: the transaction is undone and the stored answer given
    """Another request with this key was first."""


class IdempotencyService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, once: Once) -> Answer | None:
        """Errors: Invalid `idempotency_key_reused` if the key was used with another body."""
        with self._database.read() as connection:
            found = connection.execute(
                select(table.c.fingerprint, table.c.status, table.c.body, table.c.location).where(
                    *_is(once), table.c.created_at > now() - KEPT_MS
                )
            ).one_or_none()
        if found is None:
            return None
        if found.fingerprint != once.fingerprint:
            raise _reused(once)
        return Answer(found.status, found.body, found.location)

    def store(self, connection: Connection, once: Once, answer: Answer) -> None:
        """Errors: AlreadyDone. Waits for another transaction that is storing the same key."""
        connection.execute(delete(table).where(*_is(once), table.c.created_at <= now() - KEPT_MS))
        stored = connection.execute(
            self._database.insert(table)
            .values(
                project_id=once.project_id,
                api_key_id=once.api_key_id,
                route=once.route,
                key=once.key,
                fingerprint=once.fingerprint,
                status=answer.status,
                body=answer.body,
                location=answer.location,
                created_at=now(),
            )
            .on_conflict_do_nothing()
            .returning(table.c.key)
        ).one_or_none()
        if stored is None:
            raise AlreadyDone


def in_flight() -> Conflict:
    return Conflict(
        "idempotency_key_in_flight",
        "A request with this Idempotency-Key is still at work.",
        Suggestion("Send the same request again in a second: it gets the first one's answer."),
    )


def _is(once: Once) -> tuple[Any, ...]:
    return (
        table.c.project_id == once.project_id,
        table.c.api_key_id == once.api_key_id,
        table.c.route == once.route,
        table.c.key == once.key,
    )


def _reused(once: Once) -> Invalid:
    return Invalid(
        "idempotency_key_reused",
        f"The Idempotency-Key {once.key!r} was used here with another body.",
        (),
        Suggestion("Use a new key for a new request."),
    )
