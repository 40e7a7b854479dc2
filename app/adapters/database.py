"""Connections, transactions and the database's clock, for SQLite and PostgreSQL alike."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Engine,
    Row,
    Table,
    Text,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from app.domain.errors import DatabaseUnavailable, StorageFull

_BUSY_SECONDS = 10
_POOL_SECONDS = 4


AnyRow = Row[*tuple[Any, ...]]


class now(FunctionElement[int]):  # noqa: N801  it is written as the SQL function it is
    """Milliseconds since 1970 by the database's clock: leases never trust a host's."""

    type = BigInteger()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(*_args: Any, **_kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now, "postgresql")
def _now_postgresql(*_args: Any, **_kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


class member(FunctionElement[str]):  # noqa: N801
    """`member(column, name)`: the text of one member of a JSON object."""

    type = Text()
    inherit_cache = True


@compiles(member, "sqlite")
def _member_sqlite(element: "member", compiler: SQLCompiler, **kw: Any) -> str:
    column, name = (compiler.process(part, **kw) for part in element.clauses)
    return f"({column} ->> {name})"


@compiles(member, "postgresql")
def _member_postgresql(element: "member", compiler: SQLCompiler, **kw: Any) -> str:
    column, name = (compiler.process(part, **kw) for part in element.clauses)
    return f"(CAST({column} AS jsonb) ->> CAST({name} AS text))"


class Json(TypeDecorator[Any]):
    """JSON as text: written and read by one fast codec, the same on both databases."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else from_json(value, cache_strings="keys")


class State(TypeDecorator[StrEnum]):
    """A state as its text."""

    impl = Text
    cache_ok = True

    def __init__(self, states: type[StrEnum]) -> None:
        super().__init__()
        self.states = states

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002
        return None if value is None else self.states(value)


class Database:
    """`read()`: each statement has its own snapshot; `write()`: one short transaction, then a commit."""

    def __init__(self, url: str) -> None:
        self.dialect = make_url(url).get_backend_name()
        self._lock = threading.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()
        if self.dialect == "sqlite":
            self._reader, self._writer = _sqlite(url)
        else:
            self._reader, self._writer = _postgresql(url)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """On SQLite writers of this process queue for a lock instead of spinning on SQLITE_BUSY."""
        with self._lock, _translated(), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction that only one process at a time is in.

        SQLite changes a table by copying it and dropping the old one, to which rows of others refer: its
        foreign keys are checked at the end.
        """
        sqlite = self.dialect == "sqlite"
        with self._lock, _translated(), self._writer.connect() as connection:
            if sqlite:
                _pragma(connection, "foreign_keys=OFF")  # has no effect within a transaction
            with connection.begin():
                if not sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(7263)"))
                yield connection
                if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise RuntimeError("the migration would leave rows that refer to nothing")
            if sqlite:
                _pragma(connection, "foreign_keys=ON")

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT, which both dialects spell alike and SQLAlchemy types apart."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    @property
    def engine(self) -> Engine:
        return self._writer

    def ping(self) -> None:
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()


def _sqlite(url: str) -> tuple[Engine, Engine]:
    if path := make_url(url).database:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    timeout = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    reader = create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=40, connect_args=timeout, pool_timeout=_POOL_SECONDS
    )
    writer = create_engine(url, pool_size=2, connect_args=timeout, pool_timeout=_BUSY_SECONDS)
    event.listen(reader, "connect", _pragmas)
    event.listen(writer, "connect", _pragmas)
    event.listen(writer, "begin", _begin_immediate)
    return reader, writer


def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _pragma(connection: Connection, setting: str) -> None:
    """Outside any transaction."""
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA {setting}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql(url: str) -> tuple[Engine, Engine]:
    arguments = {
        "connect_timeout": 3,
        "tcp_user_timeout": 4000,
        "keepalives_idle": 10,
        "application_name": "pare",
    }
    options: dict[str, Any] = {"max_overflow": 10, "connect_args": arguments, "pool_timeout": _POOL_SECONDS}
    psycopg = make_url(url).set(drivername="postgresql+psycopg")
    reader = create_engine(psycopg, isolation_level="AUTOCOMMIT", pool_size=20, **options)
    return reader, create_engine(psycopg, pool_size=10, **options)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What the driver says when the server is away or full, in the service's terms."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if "is full" in str(error) or "No space left" in str(error):
            raise StorageFull from error
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable from error
        raise
