"""Projects and their API keys. A key is shown once; only its sha256 is kept."""

import time

from sqlalchemy import select, update

from app.adapters.database import Database, now
from app.adapters.tables import api_keys, projects
from app.domain import keys
from app.domain.ids import new_id
from app.domain.keys import Principal

_SECONDS = 5.0
_CACHED = 1024


class KeyService:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._verified: dict[str, tuple[float, Principal]] = {}

    def create_project(self, name: str) -> str:
        identity = new_id("prj")
        with self._database.write() as connection:
            connection.execute(projects.insert().values(id=identity, name=name, created_at=now()))
        return identity

    def project(self, name: str = "default") -> str:
        """The project of this name, made if there is none."""
        with self._database.read() as connection:
            query = select(projects.c.id).where(projects.c.name == name).order_by(projects.c.id).limit(1)
            found = connection.execute(query).scalar_one_or_none()
        return found or self.create_project(name)

    def create(self, project_id: str, name: str) -> str:
        """The key itself, for the only time."""
        key = keys.mint()
        with self._database.write() as connection:
            connection.execute(
                api_keys.insert().values(
                    id=new_id("key"),
                    project_id=project_id,
                    name=name,
                    shown=keys.shown(key),
                    sha256=keys.digest(key),
                    created_at=now(),
                )
            )
        return key

    def any(self) -> bool:
        """Whether there is a key at all: false at the first start."""
        with self._database.read() as connection:
            return connection.execute(select(api_keys.c.id).limit(1)).one_or_none() is not None

    def revoke(self, project_id: str, key_id: str) -> None:
        """Takes effect everywhere within seconds."""
        with self._database.write() as connection:
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.project_id == project_id)
                .values(revoked_at=now())
            )
        self._verified.clear()

    def remembered(self, key: str) -> Principal | None:
        """Who this is if it was verified seconds ago; never asks the database."""
        found = self._verified.get(keys.digest(key))
        return found[1] if found and found[0] > time.monotonic() else None

    def verify(self, key: str) -> Principal | None:
        """None: no such key. A wrong checksum never reaches the database."""
        if not keys.well_formed(key):
            return None
        with self._database.read() as connection:
            row = connection.execute(
                select(api_keys.c.project_id, api_keys.c.id).where(
                    api_keys.c.sha256 == keys.digest(key), api_keys.c.revoked_at.is_(None)
                )
            ).one_or_none()
        if row is None:
            return None
        principal = Principal(row.project_id, row.id)
        if len(self._verified) >= _CACHED:
            self._verified.clear()
        self._verified[keys.digest(key)] = (time.monotonic() + _SECONDS, principal)
        return principal
