from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from app.adapters.tables import metadata
from app.bootstrap import Services, migrate
from app.settings import Settings


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
