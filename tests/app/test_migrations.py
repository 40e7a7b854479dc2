from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, inspect, select
from sqlalchemy.exc import IntegrityError

from app.adapters.columns import metadata
from app.adapters.database import Database
from app.adapters.tables import artifacts, jobs
from app.bootstrap import Services, migrate
from app.settings import Settings

OLD_ROWS = """
INSERT INTO projects (id, name, created_at) VALUES ('prj_1', 'own', 1);
INSERT INTO blobs (project_id, sha256, bytes, created_at) VALUES ('prj_1', 'aa', 1, 1);
INSERT INTO models (id, project_id, state, name, labels, filename, source_bytes, message_at, created_at)
    VALUES ('mdl_1', 'prj_1', 'ready', 'net', '{}', 'net.onnx', 1, 1, 1);
INSERT INTO jobs (id, project_id, state, phase, queue, model_id, recipe, seed, cache, target, timeout_seconds,
                  labels, outcome_reasons, message_at, created_at)
    VALUES ('job_1', 'prj_1', 'succeeded', 'finished', 'cpu', 'mdl_1', '{}', 0, 'use', 'cpu', 60, '{}', '[]',
            1, 1);
INSERT INTO artifacts (id, project_id, job_id, format, filename, sha256, bytes, runtime, provenance,
                       created_at)
    VALUES ('art_1', 'prj_1', 'job_1', 'onnx', 'model.onnx', 'aa', 1, '{}', '{}', 1)
"""


def _run(settings: Settings, act: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.attributes["database_url"] = settings.database
    act(config, revision)


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": False}
    )
    return list(compare_metadata(context, metadata))


def test_tables_and_migrations_agree(services: Services) -> None:
    with services.database.read() as connection:
        assert differences(connection) == []


def test_migrating_again_changes_nothing(services: Services, settings: Settings) -> None:
    services.keys.create_project("kept")
    migrate(settings)
    assert services.keys.project("kept") == services.keys.project("kept")


def test_every_table_belongs_to_a_project(services: Services) -> None:
    with services.database.read() as connection:
        found = inspect(connection)
        for table in metadata.tables:
            columns = {column["name"] for column in found.get_columns(table)}
            assert table == "projects" or "project_id" in columns, table


def test_rows_survive_the_migrations(settings: Settings) -> None:
    """A job with artifacts, from the first schema to the newest and back."""
    database = Database(settings.database)
    _run(settings, command.upgrade, "0001")
    with database.write() as connection:
        for statement in OLD_ROWS.split(";"):
            connection.exec_driver_sql(statement)
    _run(settings, command.upgrade, "head")
    with database.write() as connection:
        row = connection.execute(select(jobs.c.formats, artifacts.c.job_id).join(artifacts)).one()
        assert tuple(row) == (["onnx"], "job_1")
        with pytest.raises(IntegrityError):
            connection.execute(delete(jobs))
    _run(settings, command.downgrade, "0001")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM artifacts").scalar_one() == 1
    database.close()
