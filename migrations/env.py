"""Run by alembic: on the database it is told (`app.migration.migrate`), or on that of the settings."""

from typing import Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from app.adapters.database import Database
from app.adapters.tables import projects
from app.settings import Settings


def _render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Our types are stored as text: a migration says so, and does not change when they do."""
    return "sa.Text()" if kind == "type" and isinstance(item, TypeDecorator) else False


database = Database(context.config.attributes.get("database_url") or Settings().database)
with database.migrating() as connection:
    context.configure(
        connection=connection, target_metadata=projects.metadata, render_as_batch=True, render_item=_render
    )
    with context.begin_transaction():
        context.run_migrations()
database.close()
