"""What services share in reading and writing rows: pages by keyset, and the row that vouches for a blob."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, tuple_

from app.adapters.blobs import Blob
from app.adapters.database import AnyRow, Database, now
from app.adapters.tables import blobs
from app.domain.errors import Invalid
from app.domain.records import Page
from compression.errors import FieldError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a list, newest first."""

    limit: int = 20
    after: str | None = None


def page(
    connection: Connection, query: Select[Any], table: Table, cut: Cut, make: Callable[[AnyRow], T]
) -> Page[T]:
    """One more row than asked tells whether there are more; the cost does not depend on how many were
    skipped.
    """
    key = tuple_(table.c.created_at, table.c.id)
    if cut.after is not None:
        query = query.where(key < _position(cut.after))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(cut.limit + 1)
    rows = connection.execute(query).all()
    shown = rows[: cut.limit]
    more = len(rows) > cut.limit
    return Page([make(row) for row in shown], _cursor(shown[-1]) if more else None)


def keep_blob(database: Database, connection: Connection, project_id: str, blob: Blob) -> None:
    """Vouches that the project has these bytes; they are in the store before this is written. Touching the
    row keeps
    a sweep that is deleting it at this moment from doing so."""
    connection.execute(
        database.insert(blobs)
        .values(project_id=project_id, sha256=blob.sha256, bytes=blob.bytes, created_at=now())
        .on_conflict_do_update(index_elements=["project_id", "sha256"], set_={"created_at": now()})
    )


def _cursor(row: AnyRow) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at}:{row.id}".encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, identity = text.partition(":")
        return int(moment), identity
    except (ValueError, binascii.Error):
        error = FieldError("/after", "not a cursor of this list")
        raise Invalid("invalid_cursor", "Take `next_cursor` of the page before as it is.", [error]) from None
