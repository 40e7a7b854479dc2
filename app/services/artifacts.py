from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, bindparam, select

from app.adapters.blobs import Blob
from app.adapters.database import Database, now
from app.adapters.tables import artifacts
from app.domain.errors import NotFound
from app.domain.ids import new_id
from app.domain.records import Artifact, JobClaim, NewArtifact
from app.services.rows import keep_blob

COLUMNS = [artifacts.c[field.name] for field in fields(Artifact)]
_OF_JOBS = (
    select(*COLUMNS)
    .where(artifacts.c.project_id == bindparam("project_id"))
    .where(artifacts.c.job_id.in_(bindparam("job_ids", expanding=True)))
    .order_by(artifacts.c.id)
)


class ArtifactService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, project_id: str, artifact_id: str) -> Artifact:
        with self._database.read() as connection:
            row = connection.execute(
                select(*COLUMNS).where(artifacts.c.id == artifact_id, artifacts.c.project_id == project_id)
            ).one_or_none()
        if row is None:
            raise NotFound("artifact", artifact_id)
        return Artifact(*row)


def of_jobs(connection: Connection, project_id: str, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    rows = connection.execute(_OF_JOBS, {"project_id": project_id, "job_ids": job_ids})
    found: dict[str, list[Artifact]] = {}
    for row in rows:
        found.setdefault(row.job_id, []).append(Artifact(*row))
    return found


def insert_artifacts(
    database: Database, connection: Connection, claim: JobClaim, made: Sequence[NewArtifact]
) -> list[str]:
    identities = []
    for artifact in made:
        keep_blob(database, connection, claim.project_id, Blob(artifact.sha256, artifact.bytes))
        if artifact.bundle_sha256 is not None and artifact.bundle_bytes is not None:
            bundle = Blob(artifact.bundle_sha256, artifact.bundle_bytes)
            keep_blob(database, connection, claim.project_id, bundle)
        identity = new_id("art")
        connection.execute(
            artifacts.insert().values(
                id=identity,
                project_id=claim.project_id,
                job_id=claim.id,
                created_at=now(),
                **asdict(artifact),
            )
        )
        identities.append(identity)
    return identities
