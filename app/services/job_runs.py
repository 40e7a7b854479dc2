"""The worker's side of a job: a lease, a fence, and effects that count only while the fence stands."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, and_, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.blobs import Blob
from app.adapters.database import AnyRow, Database, now
from app.adapters.notify import Notifier
from app.adapters.queue import Queue
from app.adapters.tables import jobs, step_cache, steps
from app.domain.errors import ErrorRecord, LeaseLost
from app.domain.records import JobClaim, NewArtifact, StepOutput
from app.domain.states import JobState, StepState
from app.services import claims, transitions
from app.services.artifacts import insert_artifacts
from app.services.publish import publish
from app.services.rows import keep_blob
from app.services.transitions import News, Values
from app.settings import Settings
from compression.measurement import Measurements
from compression.outcome import Outcome


class JobRuns:
    def __init__(self, settings: Settings, database: Database, queue: Queue, notify: Notifier) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._notify = notify

    def claim(self, job_id: str, owner: str) -> JobClaim | None:
        """None: it is over, being cancelled, given up, or somebody else holds the lease."""
        expired = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now())
        free = and_(
            jobs.c.id == job_id,
            or_(jobs.c.state == JobState.QUEUED, expired),
            jobs.c.attempts < self._settings.max_attempts,
        )
        values = {
            "state": JobState.RUNNING,
            "phase": "starting",
            "lease_owner": owner,
            "lease_until": self._until(),
            "fence": jobs.c.fence + 1,
            "attempts": jobs.c.attempts + 1,
            "started_at": func.coalesce(jobs.c.started_at, now()),
        }
        with self._database.write() as connection:
            row = transitions.move(connection, free, values, [("job.started", {"worker": owner})])
            if row is None:
                return None
            claim = claims.claim(connection, row, owner)
        self._notify.send(job_id)
        return claim

    def heartbeat(
        self,
        claim: JobClaim,
        phase: str | None = None,
        progress: float | None = None,
        said: Mapping[str, Any] | None = None,
    ) -> Literal["go", "cancel", "lost"]:
        """Extends the lease; with a phase or progress also tells the listeners, and what the step said."""
        given = {"phase": phase, "progress": progress}
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        news: News = [("job.progress", {**values, **(said or {})})] if values else []
        try:
            with self._database.write() as connection:
                row = self._effect(connection, claim, {**values, "lease_until": self._until()}, news)
        except LeaseLost:
            return "lost"
        if news:
            self._notify.send(claim.id)
        return "cancel" if row.state is JobState.CANCELLING else "go"

    def step_started(self, claim: JobClaim, index: int) -> None:
        """Errors: LeaseLost."""
        step = {"index": index, "technique": claim.recipe["steps"][index]["technique"]}
        with self._database.write() as connection:
            self._effect(connection, claim, {"phase": step["technique"]}, [("job.step.started", step)])
            connection.execute(
                update(steps).where(_step(claim, index)).values(state=StepState.RUNNING, started_at=now())
            )
        self._notify.send(claim.id)

    def checkpointed(self, claim: JobClaim, index: int, blob: Blob) -> str | None:
        """The next attempt at this step goes on from there. The digest of the one before, which nobody needs
        any more.

        Errors: LeaseLost, also where the step is over.
        """
        running = and_(_step(claim, index), steps.c.state == StepState.RUNNING)
        with self._database.write() as connection:
            news = [("job.step.checkpointed", {"index": index, "bytes": blob.bytes})]
            self._effect(connection, claim, {}, news)
            row = connection.execute(select(steps.c.checkpoint_sha256).where(running)).one_or_none()
            if row is None:
                raise LeaseLost(claim.id)
            keep_blob(self._database, connection, claim.project_id, blob)
            connection.execute(update(steps).where(running).values(checkpoint_sha256=blob.sha256))
        self._notify.send(claim.id)
        before: str | None = row.checkpoint_sha256
        return None if before == blob.sha256 else before

    def step_completed(self, claim: JobClaim, index: int, output: StepOutput) -> None:
        """The next attempt starts after this step, and attempts count from here. Errors: LeaseLost."""
        news = {"index": index, "cache_hit": output.cache_hit, "bytes": output.bytes}
        with self._database.write() as connection:
            self._effect(connection, claim, {"attempts": 1}, [("job.step.completed", news)])
            keep_blob(self._database, connection, claim.project_id, Blob(output.sha256, output.bytes))
            connection.execute(
                update(steps)
                .where(_step(claim, index))
                .values(
                    state=StepState.COMPLETED,
                    cache_hit=output.cache_hit,
                    output_sha256=output.sha256,
                    checkpoint_sha256=None,
                    details=output.details,
                    inspection=output.inspection,
                    completed_at=now(),
                )
            )
        self._notify.send(claim.id)

    def cached(self, claim: JobClaim, key: str) -> StepOutput | None:
        """What the same step gave before in this project, if its bytes are still vouched for."""
        entry = step_cache.c
        with self._database.write() as connection:
            row = connection.execute(
                update(step_cache)
                .where(entry.project_id == claim.project_id, entry.key == key)
                .values(used_at=now())
                .returning(entry.output_sha256, entry.details, entry.inspection)
            ).one_or_none()
            return None if row is None else claims.output(connection, claim.project_id, row, cache_hit=True)

    def remember(self, claim: JobClaim, key: str, output: StepOutput) -> None:
        values = {
            "output_sha256": output.sha256,
            "details": output.details,
            "inspection": output.inspection,
            "used_at": now(),
        }
        with self._database.write() as connection:
            keep_blob(self._database, connection, claim.project_id, Blob(output.sha256, output.bytes))
            connection.execute(
                self._database.insert(step_cache)
                .values(project_id=claim.project_id, key=key, created_at=now(), **values)
                .on_conflict_do_update(index_elements=["project_id", "key"], set_=values)
            )

    def succeed(
        self,
        claim: JobClaim,
        artifacts: Sequence[NewArtifact],
        measurements: Sequence[Measurements],
        outcome: Outcome,
        environment: Mapping[str, Any],
        failed_formats: Sequence[Mapping[str, Any]] = (),
    ) -> JobState:
        """`measurements` are those after each step, the last ones the job's own; of a conversion, which has
        no steps, there is one.

        `cancelled` if a cancel was asked for meanwhile. Errors: LeaseLost.
        """
        values = {
            "progress": 1.0,
            "measurements": measurements[-1],
            "outcome": outcome.status.value,
            "outcome_reasons": outcome.reasons,
            "environment": environment,
            "failed_formats": failed_formats,
        }

        def finish(connection: Connection) -> None:
            for index, measured in enumerate(measurements):
                connection.execute(update(steps).where(_step(claim, index)).values(measurements=measured))
            made = insert_artifacts(self._database, connection, claim, artifacts)
            news = [("artifact.created", {"artifact_id": identity}) for identity in made]
            failed = [each["format"] for each in failed_formats]
            over = ("job.succeeded", {"outcome": outcome.status.value, "failed_formats": failed})
            transitions.succeed(connection, _held(claim), values, [*news, over])

        return self._end(claim, finish)

    def fail(self, claim: JobClaim, error: ErrorRecord) -> JobState:
        """`cancelled` if a cancel was asked for meanwhile. Errors: LeaseLost."""
        return self._end(claim, lambda connection: transitions.fail(connection, _held(claim), error))

    def cancelled(self, claim: JobClaim) -> None:
        """Errors: LeaseLost, also if no cancel was asked for."""
        with self._database.write() as connection:
            if transitions.cancel(connection, _held(claim)) is None:
                raise LeaseLost(claim.id)
        self._notify.send(claim.id)

    def release(self, claim: JobClaim) -> JobState:
        """Given back by a draining worker: the attempt is not charged. Errors: LeaseLost."""
        values = {"attempts": jobs.c.attempts - 1}
        reason = {"reason": "worker_drained"}
        return self._end(
            claim, lambda connection: transitions.requeue(connection, _held(claim), values, reason)
        )

    def retry(self, claim: JobClaim, error: ErrorRecord) -> JobState:
        """After a failure that may pass: the attempt stays charged; the last one fails the job. Errors:
        LeaseLost.
        """
        reason = {"reason": error.code, "detail": error.detail}

        def again(connection: Connection) -> None:
            attempts = connection.execute(select(jobs.c.attempts).where(_held(claim))).scalar_one()
            if attempts < self._settings.max_attempts:
                transitions.requeue(connection, _held(claim), {}, reason)
            else:
                transitions.fail(connection, _held(claim), error)

        return self._end(claim, again)

    def _end(self, claim: JobClaim, act: Callable[[Connection], object]) -> JobState:
        """Ends this worker's hold: a cancel that was asked for wins over whatever the worker has to say."""
        with self._database.write() as connection:
            held = connection.execute(
                select(jobs.c.state).where(_held(claim)).with_for_update()
            ).scalar_one_or_none()
            if held is None:
                raise LeaseLost(claim.id)
            if held is JobState.CANCELLING:
                transitions.cancel(connection, _held(claim))
            else:
                act(connection)
            state: JobState
            state, queue = connection.execute(
                select(jobs.c.state, jobs.c.queue).where(
                    jobs.c.id == claim.id, jobs.c.project_id == claim.project_id
                )
            ).one()
        if state is JobState.QUEUED:
            publish(self._queue, "run_job", claim.id, queue)
        self._notify.send(claim.id)
        return state

    def _effect(self, connection: Connection, claim: JobClaim, values: Values, news: News) -> AnyRow:
        row = transitions.move(connection, _held(claim), values, news)
        if row is None:
            raise LeaseLost(claim.id)
        return row

    def _until(self) -> ColumnElement[int]:
        return now() + self._settings.lease_seconds * 1000


def _held(claim: JobClaim) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == claim.id,
        jobs.c.project_id == claim.project_id,
        jobs.c.fence == claim.fence,
        jobs.c.lease_owner == claim.owner,
        jobs.c.state.in_((JobState.RUNNING, JobState.CANCELLING)),
    )


def _step(claim: JobClaim, index: int) -> ColumnElement[bool]:
    return and_(steps.c.job_id == claim.id, steps.c.project_id == claim.project_id, steps.c.index == index)
