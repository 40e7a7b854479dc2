"""Files in other formats and bundles: what a job is asked for, what came of it; previews of data sets."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BLOBS = (("jobs", "artifact_sha256"), ("artifacts", "bundle_sha256"))


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("formats", sa.Text(), server_default='["onnx"]', nullable=False))
        batch_op.add_column(sa.Column("failed_formats", sa.Text(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("artifact_id", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("artifact_sha256", sa.Text(), nullable=True))
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("proof", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("bundle_sha256", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("bundle_bytes", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("preview", sa.Text(), nullable=True))
    for table, column in _BLOBS:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.create_index(f"ix_{table}_project_id_{column}", ["project_id", column], unique=False)
            batch_op.create_foreign_key(
                batch_op.f(f"fk_{table}_project_id_{column}"),
                "blobs",
                ["project_id", column],
                ["project_id", "sha256"],
            )


def downgrade() -> None:
    for table, column in _BLOBS:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_constraint(batch_op.f(f"fk_{table}_project_id_{column}"), type_="foreignkey")
            batch_op.drop_index(f"ix_{table}_project_id_{column}")
    for table, names in (
        ("jobs", ("artifact_sha256", "artifact_id", "failed_formats", "formats")),
        ("artifacts", ("bundle_bytes", "bundle_sha256", "proof")),
        ("datasets", ("preview",)),
    ):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in names:
                batch_op.drop_column(name)
