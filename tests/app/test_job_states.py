"""The transitions of a job through the real services, in any order: only those of the table ever happen."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import update

from app.adapters.blobs import Blob
from app.adapters.tables import jobs as table
from app.bootstrap import Services
from app.domain.errors import Conflict, ErrorRecord, LeaseLost
from app.domain.records import JobClaim, NewArtifact, StepOutput
from app.domain.states import TRANSITIONS, JobState
from app.services.inspected import Registration
from app.services.orders import Order
from app.services.uploads import NewUpload
from compression.outcome import Outcome, Status
from compression.recipe import Recipe
from tests.app.conftest import MEASUREMENTS, MODEL, ONNX

SHA = hashlib.sha256(ONNX).hexdigest()
ERROR = ErrorRecord("E_SANDBOX_CRASH", "it died")


def machine(services: Services) -> type[RuleBasedStateMachine]:  # noqa: C901  a class made for its services
    project = services.keys.create_project("states")
    model_id = _ready_model(services, project)

    class Jobs(RuleBasedStateMachine):
        claims = Bundle("claims")

        def __init__(self) -> None:
            super().__init__()
            recipe = Recipe.model_validate({"steps": [{"technique": "half_precision"}] * 2})
            self.id = services.jobs.submit(project, Order(model_id, None, recipe)).id
            self.seen = JobState.QUEUED
            self.fence = 0
            self.expired = False

        @rule(target=claims)
        def claim(self) -> JobClaim | None:
            claim = services.jobs.claim(self.id, "worker")
            allowed = self.seen is JobState.QUEUED or (self.seen is JobState.RUNNING and self.expired)
            if claim is not None:
                assert allowed
                assert claim.fence > self.fence
                self.fence, self.expired = claim.fence, False
            return claim

        @rule(claim=claims)
        def heartbeat(self, claim: JobClaim | None) -> None:
            if claim is None:
                return
            answer = services.jobs.heartbeat(claim, phase="busy", progress=0.5)
            held = claim.fence == self.fence and self.seen in {JobState.RUNNING, JobState.CANCELLING}
            assert answer == ("lost" if not held else "cancel" if self.seen is JobState.CANCELLING else "go")
            self.expired = self.expired and not held

        @rule(claim=claims)
        def step(self, claim: JobClaim | None) -> None:
            def act(held: JobClaim) -> None:
                services.jobs.step_started(held, 0)
                services.jobs.step_completed(held, 0, StepOutput(SHA, len(ONNX), {}, MODEL))

            self._effect(claim, act)

        @rule(claim=claims)
        def succeed(self, claim: JobClaim | None) -> None:
            made = NewArtifact("onnx", "net.onnx", SHA, len(ONNX))
            outcome = Outcome(status=Status.MET)
            self._effect(claim, lambda held: services.jobs.succeed(held, [made], [MEASUREMENTS], outcome, {}))

        @rule(claim=claims)
        def fail(self, claim: JobClaim | None) -> None:
            self._effect(claim, lambda held: services.jobs.fail(held, ERROR))

        @rule(claim=claims)
        def retry(self, claim: JobClaim | None) -> None:
            self._effect(claim, lambda held: services.jobs.retry(held, ERROR))

        @rule(claim=claims)
        def release(self, claim: JobClaim | None) -> None:
            self._effect(claim, services.jobs.release)

        @rule(claim=claims)
        def cancelled(self, claim: JobClaim | None) -> None:
            if claim is not None and self.seen is JobState.CANCELLING:
                self._effect(claim, services.jobs.cancelled)

        @rule()
        def cancel(self) -> None:
            try:
                services.jobs.cancel(project, self.id)
            except Conflict:
                assert self.seen.over

        @rule()
        def expire(self) -> None:
            with services.database.write() as connection:
                connection.execute(update(table).where(table.c.id == self.id).values(lease_until=0))
            self.expired = True

        @rule()
        def sweep(self) -> None:
            services.sweep.run()

        @invariant()
        def only_transitions_of_the_table(self) -> None:
            job = services.jobs.get(project, self.id)
            assert job.state is self.seen or _reachable(self.seen, job.state)
            self.seen = job.state
            assert (job.error is not None) == (job.state is JobState.FAILED)
            assert (job.finished_at is not None) == job.state.over
            assert len(job.artifacts) == (1 if job.state is JobState.SUCCEEDED else 0)
            assert job.attempts <= services.settings.max_attempts
            ids = [event.id for event in services.jobs.events(project, self.id)]
            assert ids == list(range(1, len(ids) + 1))

        def _effect(self, claim: JobClaim | None, act: Callable[[JobClaim], object]) -> None:
            """Has its effect with the newest fence, and none with an older one."""
            if claim is None:
                return
            held = claim.fence == self.fence and self.seen in {JobState.RUNNING, JobState.CANCELLING}
            if held:
                act(claim)
            else:
                with pytest.raises(LeaseLost):
                    act(claim)

    return Jobs


def _reachable(before: JobState, after: JobState) -> bool:
    """In one step, or in two where a sweep finds a lease that expired and gives the job up."""
    return after in TRANSITIONS[before] or any(after in TRANSITIONS[middle] for middle in TRANSITIONS[before])


def _ready_model(services: Services, project: str) -> str:
    upload = services.uploads.create(project, NewUpload("net.onnx", len(ONNX), "model"))
    receiving = services.uploads.receive(project, upload.id, len(ONNX))
    receiving.write([ONNX])
    receiving.finish()
    model = services.models.register(project, Registration(upload.id))
    claim = services.models.claim(model.id, "worker")
    assert claim is not None
    services.models.ready(claim, Blob(SHA, len(ONNX)), MODEL)
    return model.id


def test_only_transitions_of_the_table(services: Services) -> None:
    quick = settings(
        max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine(services), settings=quick)
