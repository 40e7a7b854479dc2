"""The transitions of a job: one UPDATE that names the states it leaves, and the events that tell of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, update
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.database import AnyRow, now
from app.adapters.tables import events, jobs, steps
from app.domain.errors import ErrorRecord
from app.domain.states import JobState, StepState

Values = Mapping[str, Any]
News = Sequence[tuple[str, Values]]
Where = ColumnElement[bool]
_EVENT = insert(events).values(timestamp=now())


def move(connection: Connection, where: Where, values: Values, news: News) -> AnyRow | None:
    """The row afterwards, or None if no row was in such a state."""
    row = connection.execute(
        update(jobs).where(where).values(**values, events=jobs.c.events + len(news)).returning(*jobs.c)
    ).one_or_none()
    if row is not None:
        append(connection, row, news)
    return row


def append(connection: Connection, row: AnyRow, news: News) -> None:
    """Numbers the events from the job's counter: its row is locked, so they are committed in order, without
    gaps.
    """
    first = row.events - len(news) + 1
    named = {"project_id": row.project_id, "job_id": row.id}
    rows = [{**named, "id": first + i, "type": type_, "data": data} for i, (type_, data) in enumerate(news)]
    if rows:
        connection.execute(_EVENT, rows if len(rows) > 1 else rows[0])


def succeed(connection: Connection, where: Where, values: Values, news: News) -> AnyRow | None:
    return move(
        connection, where & (jobs.c.state == JobState.RUNNING), {**values, **_over(JobState.SUCCEEDED)}, news
    )


def fail(connection: Connection, where: Where, error: ErrorRecord) -> AnyRow | None:
    news = [("job.failed", {"code": error.code, "detail": error.detail})]
    values = {**_over(JobState.FAILED), "error": error.json()}
    row = move(connection, where & (jobs.c.state == JobState.RUNNING), values, news)
    if row is not None:
        _close_steps(connection, row, {StepState.RUNNING: StepState.FAILED})
    return row


def cancel(connection: Connection, where: Where) -> AnyRow | None:
    """From `cancelling`, or from `queued` where nobody has to be told."""
    leaves = jobs.c.state.in_((JobState.QUEUED, JobState.CANCELLING))
    row = move(connection, where & leaves, _over(JobState.CANCELLED), [("job.cancelled", {})])
    if row is not None:
        undone = {StepState.PENDING: StepState.CANCELLED, StepState.RUNNING: StepState.CANCELLED}
        _close_steps(connection, row, undone)
    return row


def end(connection: Connection, where: Where) -> AnyRow | None:
    """At a client's wish: at once where it is queued; a running job's worker has to be told."""
    running = where & (jobs.c.state == JobState.RUNNING)
    asked = {"state": JobState.CANCELLING}
    return cancel(connection, where & (jobs.c.state == JobState.QUEUED)) or move(
        connection, running, asked, [("job.cancelling", {})]
    )


def requeue(connection: Connection, where: Where, values: Values, reason: Values) -> AnyRow | None:
    back = {
        "state": JobState.QUEUED,
        "phase": "queued",
        "lease_owner": None,
        "lease_until": None,
        "message_at": now(),
    }
    leaves = where & (jobs.c.state == JobState.RUNNING)
    row = move(connection, leaves, {**back, **values}, [("job.requeued", reason)])
    if row is not None:
        _close_steps(connection, row, {StepState.RUNNING: StepState.PENDING})
    return row


def _over(state: JobState) -> Values:
    return {
        "state": state,
        "phase": "finished",
        "finished_at": now(),
        "lease_owner": None,
        "lease_until": None,
    }


def _close_steps(connection: Connection, row: AnyRow, changes: Mapping[StepState, StepState]) -> None:
    """A step that is over for good has no use for its checkpoint."""
    for before, after in changes.items():
        values = {"state": after} | ({} if after is StepState.PENDING else {"checkpoint_sha256": None})
        connection.execute(
            update(steps)
            .where(steps.c.job_id == row.id, steps.c.project_id == row.project_id, steps.c.state == before)
            .values(**values)
        )
