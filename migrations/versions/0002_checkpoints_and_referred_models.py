"""Checkpoints and measurements of steps, models that a job refers to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_models",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_models_job_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_job_models_model_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_job_models_project_id")),
        sa.PrimaryKeyConstraint("job_id", "model_id", name=op.f("pk_job_models")),
    )
    with op.batch_alter_table("job_models", schema=None) as batch_op:
        batch_op.create_index("ix_job_models_model_id", ["model_id"], unique=False)

    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.add_column(sa.Column("checkpoint_sha256", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("measurements", sa.Text(), nullable=True))
        batch_op.create_index(
            "ix_steps_project_id_checkpoint_sha256", ["project_id", "checkpoint_sha256"], unique=False
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_steps_project_id_checkpoint_sha256"),
            "blobs",
            ["project_id", "checkpoint_sha256"],
            ["project_id", "sha256"],
        )


def downgrade() -> None:
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_steps_project_id_checkpoint_sha256"), type_="foreignkey")
        batch_op.drop_index("ix_steps_project_id_checkpoint_sha256")
        batch_op.drop_column("measurements")
        batch_op.drop_column("checkpoint_sha256")

    with op.batch_alter_table("job_models", schema=None) as batch_op:
        batch_op.drop_index("ix_job_models_model_id")

    op.drop_table("job_models")
