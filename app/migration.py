"""Brings a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config

import migrations


def migrate(database_url: str) -> None:
    """Idempotent. The migrations lie beside the code, wherever that is installed."""
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(migrations.__path__)))))
    config.attributes["database_url"] = database_url
    command.upgrade(config, "head")
