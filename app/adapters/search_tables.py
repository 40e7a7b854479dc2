"""The table of searches; their trials are jobs."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from app.adapters.columns import created, metadata, project
from app.adapters.database import Json, State
from app.domain.states import SearchState

searches = Table(
    "searches",
    metadata,
    Column("id", Text, primary_key=True),
    project(),
    Column("state", State(SearchState), nullable=False),
    Column("model_id", Text, ForeignKey("models.id"), nullable=False),
    Column("dataset_id", Text, ForeignKey("datasets.id")),
    Column("budget", Json, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("cache", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("labels", Json, nullable=False),
    Column("formats", Json, nullable=False),
    # the split; null where there is none, and of searches that are older than this column
    Column("judged_by", Text),
    # counts changes: who plans on an older one is refused
    Column("revision", Integer, nullable=False, server_default="0"),
    # of searching before it was resumed; the clock of this time runs from begun_at
    Column("spent_ms", BigInteger, nullable=False, server_default="0"),
    Column("begun_at", BigInteger, nullable=False),
    Column("chosen", Integer),
    Column("proof_job_id", Text),
    Column("outcome", Text),
    Column("outcome_reasons", Json, nullable=False),
    Column("notes", Json, nullable=False, server_default="[]"),
    Column("error", Json),
    Column("message_at", BigInteger, nullable=False),
    created(),
    Column("finished_at", BigInteger),
    Index("ix_searches_project_id_created_at_id", "project_id", "created_at", "id"),
    Index("ix_searches_state_message_at", "state", "message_at"),
    Index("ix_searches_model_id", "model_id"),
    Index("ix_searches_dataset_id", "dataset_id"),
)
