"""Searches, and the jobs that are their trials."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = {
    "project_id_created_at_id": ["project_id", "created_at", "id"],
    "state_message_at": ["state", "message_at"],
    "model_id": ["model_id"],
    "dataset_id": ["dataset_id"],
}


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=True),
        sa.Column("budget", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("cache", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("formats", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("spent_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=True),
        sa.Column("proof_job_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_reasons", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_searches_project_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_searches_model_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_searches_dataset_id")),
    )
    for name, columns in _COLUMNS.items():
        op.create_index(f"ix_searches_{name}", "searches", columns, unique=False)
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("search_id", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("trial", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("planned", sa.Text(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_jobs_search_id"), "searches", ["search_id"], ["id"])
        batch_op.create_index("ix_jobs_search_id_trial", ["search_id", "trial"], unique=True)


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_search_id_trial")
        batch_op.drop_constraint(batch_op.f("fk_jobs_search_id"), type_="foreignkey")
        for name in ("planned", "trial", "search_id"):
            batch_op.drop_column(name)
    op.drop_table("searches")
