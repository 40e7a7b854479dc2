"""What a search judges its trials by, and what it has to say about itself."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("searches", schema=None) as batch_op:
        batch_op.add_column(sa.Column("judged_by", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("notes", sa.Text(), server_default="[]", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("searches", schema=None) as batch_op:
        batch_op.drop_column("notes")
        batch_op.drop_column("judged_by")
