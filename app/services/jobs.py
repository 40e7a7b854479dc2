"""The client's side of a job: submit, look, cancel, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from sqlalchemy import Connection, bindparam, delete, func, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.blobs import Blob
from app.adapters.database import member
from app.adapters.tables import artifacts, events, job_models, jobs, steps
from app.domain.errors import Conflict, NotFound
from app.domain.records import Event, Job, Page, Step
from app.domain.states import OVER, JobState
from app.services import transitions
from app.services.artifacts import of_jobs
from app.services.idempotency import Record, unrecorded
from app.services.job_runs import JobRuns
from app.services.orders import Conversion, Order, check, check_conversion
from app.services.placing import COLUMNS, asked, insert_job, place
from app.services.publish import publish
from app.services.rows import Cut, keep_blob, page
from compression.errors import Suggestion

_STEP = [steps.c[field.name] for field in fields(Step)]
_EVENT = [events.c[field.name] for field in fields(Event)]
_QUEUE_SEEN = 1000
# Built once: making a statement costs more than running it.
_GET = select(*COLUMNS).where(jobs.c.id == bindparam("id"), jobs.c.project_id == bindparam("project"))
_BEFORE = select(func.count()).select_from(
    select(jobs.c.id)
    .where(
        jobs.c.queue == bindparam("queue"),
        jobs.c.state == JobState.QUEUED,
        tuple_(jobs.c.created_at, jobs.c.id) < tuple_(bindparam("created_at"), bindparam("id")),
    )
    .limit(_QUEUE_SEEN)
    .subquery()
)


@dataclass(frozen=True, slots=True)
class Filter:
    state: JobState | None = None
    model_id: str | None = None
    label: tuple[str, str] | None = None
    search_id: str | None = None
    """None: trials of searches are left out."""


class JobService(JobRuns):
    def submit(self, project_id: str, order: Order, record: Record[Job] = unrecorded) -> Job:
        """Errors: NotFound; Conflict `model_not_ready`, `dataset_not_ready`; Invalid `recipe_refused`,
        `dataset_misfit`.
        """
        with self._database.write() as connection:
            check(connection, project_id, order)
            created = place(connection, project_id, order)
            record(connection, created)
        publish(self._queue, "run_job", created.id, created.queue)
        return created

    def convert(self, project_id: str, order: Conversion, record: Record[Job] = unrecorded) -> Job:
        """A job without steps: it starts from the artifact and ends with the same proof.

        Errors: NotFound, also of the model or data set it was made with; Conflict `artifact_not_onnx`.
        """
        with self._database.write() as connection:
            artifact, made_by = check_conversion(connection, project_id, order)
            keep_blob(self._database, connection, project_id, Blob(artifact.sha256, artifact.bytes))
            values = {name: getattr(made_by, name) for name in _OF_THE_MAKER}
            values |= {"artifact_id": artifact.id, "artifact_sha256": artifact.sha256}
            created = insert_job(connection, {"project_id": project_id, **values, **asked(order)})
            record(connection, created)
        publish(self._queue, "run_job", created.id, created.queue)
        return created

    def get(self, project_id: str, job_id: str) -> Job:
        with self._database.read() as connection:
            job = self._job(connection, project_id, job_id)
            if job.state is JobState.QUEUED:
                return replace(job, queue_position=_position(connection, job))
            if job.state is JobState.SUCCEEDED:
                return with_results(connection, [job])[0]
        return job

    def list(self, project_id: str, cut: Cut, wanted: Filter) -> Page[Job]:
        query = select(*COLUMNS).where(jobs.c.project_id == project_id)
        if wanted.state is not None:
            query = query.where(jobs.c.state == wanted.state)
        if wanted.model_id is not None:
            query = query.where(jobs.c.model_id == wanted.model_id)
        if wanted.search_id is None:
            query = query.where(jobs.c.trial.is_(None))
        else:
            query = query.where(jobs.c.search_id == wanted.search_id)
        if wanted.label is not None:
            name, value = wanted.label
            query = query.where(member(jobs.c.labels, name) == value)
        with self._database.read() as connection:
            found = page(connection, query, jobs, cut, lambda row: Job(*row))
            return replace(found, data=with_results(connection, found.data))

    def cancel(self, project_id: str, job_id: str, record: Record[Job] = unrecorded) -> Job:
        """Takes effect within seconds even in native code; asking again is no error. Errors: Conflict
        `job_over`.
        """
        where = _is(project_id, job_id)
        with self._database.write() as connection:
            row = transitions.end(connection, where)
            job = self._job(connection, project_id, job_id)
            if row is None and job.state is not JobState.CANCELLING:
                raise Conflict("job_over", f"The job is {job.state}: there is nothing to cancel.")
            record(connection, job)
        self._notify.send(job_id)
        return job

    def delete(self, project_id: str, job_id: str) -> None:
        """With its artifacts. Errors: NotFound; Conflict `job_not_over`, `job_in_search`."""
        with self._database.write() as connection:
            job = self._job(connection, project_id, job_id)
            if not job.state.over:
                way = Suggestion(f"Cancel it first: POST /v1/jobs/{job_id}/cancel")
                raise Conflict("job_not_over", f"The job is {job.state}.", way)
            if job.trial is not None:
                way = Suggestion(
                    f"Delete the search with all its trials: DELETE /v1/searches/{job.search_id}"
                )
                raise Conflict("job_in_search", f"The job is trial {job.trial} of a search.", way)
            for table in (artifacts, events, steps, job_models):
                connection.execute(
                    delete(table).where(table.c.job_id == job_id, table.c.project_id == project_id)
                )
            connection.execute(delete(jobs).where(_is(project_id, job_id)))

    def steps(self, project_id: str, job_id: str) -> Sequence[Step]:
        self.exists(project_id, job_id)
        with self._database.read() as connection:
            rows = connection.execute(
                select(*_STEP)
                .where(steps.c.project_id == project_id, steps.c.job_id == job_id)
                .order_by(steps.c.index)
            )
            return [Step(*row) for row in rows]

    def events(self, project_id: str, job_id: str, after: int = 0, limit: int = 100) -> Sequence[Event]:
        """Those with an id above `after`, in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(*_EVENT)
                .where(events.c.project_id == project_id, events.c.job_id == job_id, events.c.id > after)
                .order_by(events.c.id)
                .limit(limit)
            )
            return [Event(*row) for row in rows]

    def exists(self, project_id: str, job_id: str) -> JobState:
        """Its state. Errors: NotFound."""
        with self._database.read() as connection:
            state = connection.execute(
                select(jobs.c.state).where(_is(project_id, job_id))
            ).scalar_one_or_none()
        if state is None:
            raise NotFound("job", job_id)
        return JobState(state)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Jobs of all projects that are not over, by queue and state: for the operator's metrics only."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(jobs.c.queue, jobs.c.state, func.count())
                .where(jobs.c.state.not_in(OVER))
                .group_by(jobs.c.queue, jobs.c.state)
            )
            return {(queue, state): count for queue, state, count in rows}

    def _job(self, connection: Connection, project_id: str, job_id: str) -> Job:
        row = connection.execute(_GET, {"id": job_id, "project": project_id}).one_or_none()
        if row is None:
            raise NotFound("job", job_id)
        return Job(*row)


def _is(project_id: str, job_id: str) -> ColumnElement[bool]:
    return (jobs.c.id == job_id) & (jobs.c.project_id == project_id)


_REUSED = (
    select(steps.c.job_id, steps.c.index)
    .where(steps.c.project_id == bindparam("project_id"), steps.c.cache_hit)
    .where(steps.c.job_id.in_(bindparam("job_ids", expanding=True)))
    .order_by(steps.c.index)
)


def with_results(connection: Connection, found: Sequence[Job]) -> list[Job]:
    """All of one project. What only finished jobs have is fetched for all of them at once."""
    finished = [job.id for job in found if job.state is JobState.SUCCEEDED]
    if not finished:
        return list(found)
    project_id = found[0].project_id
    made = of_jobs(connection, project_id, finished)
    hits: dict[str, list[int]] = {}
    for job_id, index in connection.execute(_REUSED, {"project_id": project_id, "job_ids": finished}):
        hits.setdefault(job_id, []).append(index)
    return [replace(job, artifacts=made.get(job.id, ()), cache_hits=hits.get(job.id, ())) for job in found]


def _position(connection: Connection, job: Job) -> int | None:
    """Place among all that wait in the same queue, whoever's they are; None where the queue is very long."""
    given = {"queue": job.queue, "created_at": job.created_at, "id": job.id}
    count: int = connection.execute(_BEFORE, given).scalar_one()
    return count + 1 if count < _QUEUE_SEEN else None


_OF_THE_MAKER = ("queue", "model_id", "dataset_id", "recipe", "seed", "cache", "target")
