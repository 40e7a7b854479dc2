"""What columns of tables have in common. Times are milliseconds of the database's clock."""

from sqlalchemy import BigInteger, Column, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def project() -> Column[str]:
    return Column("project_id", Text, ForeignKey("projects.id"), nullable=False)


def created() -> Column[int]:
    return Column("created_at", BigInteger, nullable=False)


def lease() -> list[Column[int] | Column[str]]:
    """Whoever holds the lease works on the row; the fence tells its effects from those of earlier holders."""
    return [
        Column("lease_owner", Text),
        Column("lease_until", BigInteger),
        Column("fence", Integer, nullable=False, server_default="0"),
        Column("attempts", Integer, nullable=False, server_default="0"),
        # when a message was last sent: queued long ago and few messages waiting means that it was lost
        Column("message_at", BigInteger, nullable=False),
    ]


def blob(column: str) -> ForeignKeyConstraint:
    """A row that names bytes the project does not have must be impossible."""
    return ForeignKeyConstraint(["project_id", column], ["blobs.project_id", "blobs.sha256"])
