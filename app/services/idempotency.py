"""Idempotency keys: the answer to a POST is written in the transaction that did its work, so both exist or
neither.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, select

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


class AlreadyDone(Exception):
    """Another request with this key was first: the transaction is undone and the stored answer given."""


_PRIMARY = ["project_id", "api_key_id", "route", "key"]
_IS = tuple(table.c[name] == bindparam(name) for name in _PRIMARY)
_FIND = select(table.c.fingerprint, table.c.status, table.c.body, table.c.location).where(
    *_IS, table.c.created_at > now() - KEPT_MS
)


class IdempotencyService:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = _store(database)

    def find(self, once: Once) -> Answer | None:
        """Errors: Invalid `idempotency_key_reused` if the key was used with another body."""
        named = {name: getattr(once, name) for name in _PRIMARY}
        with self._database.read() as connection:
            found = connection.execute(_FIND, named).one_or_none()
        if found is None:
            return None
        if found.fingerprint != once.fingerprint:
            raise _reused(once)
        return Answer(found.status, found.body, found.location)

    def store(self, connection: Connection, once: Once, answer: Answer) -> None:
        """Errors: AlreadyDone. Waits for another transaction that is storing the same key."""
        if connection.execute(self._store, {**asdict(once), **asdict(answer)}).one_or_none() is None:
            raise AlreadyDone


def _store(database: Database) -> Any:
    """Takes the place of a record that has expired, and leaves one that has not."""
    new = database.insert(table).values(created_at=now())
    renewed = {
        name: new.excluded[name] for name in ("fingerprint", "status", "location", "body", "created_at")
    }
    return new.on_conflict_do_update(
        index_elements=_PRIMARY, set_=renewed, where=table.c.created_at <= now() - KEPT_MS
    ).returning(table.c.key)


def in_flight() -> Conflict:
    return Conflict(
        "idempotency_key_in_flight",
        "A request with this Idempotency-Key is still at work.",
        Suggestion("Send the same request again in a second: it gets the first one's answer."),
    )


def _reused(once: Once) -> Invalid:
    return Invalid(
        "idempotency_key_reused",
        f"The Idempotency-Key {once.key!r} was used here with another body.",
        (),
        Suggestion("Use a new key for a new request."),
    )
