"""A job from claim to verdict. Its lease's fence guards every effect; the row is the truth."""

import hashlib
import json
import time
from functools import cached_property
from pathlib import Path
from typing import cast

import structlog

from app.domain.errors import ErrorRecord, LeaseLost, in_recipe
from app.domain.records import JobClaim, StepOutput
from compression import pipeline
from compression.errors import CompressionError, ErrorKind
from compression.measurement import Measurements
from compression.outcome import judge
from compression.pipeline import StepFailed
from compression.recipe import Recipe, canonical
from compression.search.budget import most_samples, source
from compression.step import StepResult
from compression.technique import Technique
from workers import searching
from workers.bench import Bench, Cancelled, Desk, Drained, Lost, Stop
from workers.checkpoints import Checkpoints
from workers.exports import Exported, Exporting
from workers.glances import Glance, Glanced
from workers.lease import JobLease
from workers.operations import Apply, Carve, Limits, Measure, Measured, Operation
from workers.sandbox import Done
from workers.supervision import timed_out

_log = structlog.get_logger()
_CARVED = "carved 2"
"""Counts the ways in which a search's samples were chosen."""
_INTERNAL = ErrorRecord(
    "E_INTERNAL", "This should not have happened; the server's log says more.", ErrorKind.INTERNAL
)


def run_job(bench: Bench, job_id: str) -> None:
    """A message about a job: done, elsewhere or unknown jobs are left alone."""
    claim = bench.insist(lambda: bench.services.jobs.claim(job_id, bench.worker_id))
    if claim is None:
        return
    with structlog.contextvars.bound_contextvars(job_id=job_id, attempt=claim.attempts), bench.desk() as desk:
        _log.info("job started")
        try:
            ended = _attempt(Execution(bench, claim, desk))
        except (Lost, LeaseLost):
            ended = "lost"
        except Drained:
            ended = "drained"  # the database was away too: the lease runs out
        _log.info("job ended", state=str(ended))
        if claim.search_id is not None and ended not in {"lost", "drained"}:
            searching.after(bench, claim.search_id)


def _attempt(execution: "Execution") -> str:
    """Errors: Lost, LeaseLost, Drained."""
    bench, claim, jobs = execution.bench, execution.claim, execution.bench.services.jobs
    try:
        return execution.run()
    except Drained:
        return jobs.release(claim)
    except Cancelled:
        bench.insist(lambda: jobs.cancelled(claim))
        return "cancelled"
    except Stop:
        raise
    except CompressionError as error:
        record = ErrorRecord.of(error)
        if isinstance(error, StepFailed):
            record = in_recipe(error, error.index, claim.recipe)
    except Exception:  # noqa: BLE001  a bug of ours must end the job, not the worker
        _log.exception("job broke")
        record = _INTERNAL
    end = jobs.retry if record.kind is ErrorKind.INFRASTRUCTURE else jobs.fail
    return bench.insist(lambda: end(claim, record))


class Execution:
    def __init__(self, bench: Bench, claim: JobClaim, desk: Desk) -> None:
        self.bench = bench
        self.claim = claim
        self._desk = desk
        self._jobs = bench.services.jobs
        self._lease = JobLease(bench, claim)
        self._deadline = time.monotonic() + claim.timeout_seconds
        self._outputs: list[StepOutput] = []
        self._core_seconds = 0.0

    @cached_property
    def _recipe(self) -> Recipe:
        return Recipe.model_validate(self.claim.recipe)

    def run(self) -> str:
        """Errors: CompressionError, Stop."""
        claim = self.claim
        original = StepOutput(claim.artifact_sha256 or claim.model_sha256, 0, {}, claim.model_inspection)
        self._glance()
        final = pipeline.run(self._steps, original, self._step)
        measured = self._measure(final)
        exported = self._export(final, measured[-1])
        outcome = judge(self._recipe, measured[-1])
        core = {"seed": claim.seed, "core_seconds": round(self._core_seconds, 3)}
        environment = {**self.bench.environment, **core}
        return self.bench.insist(
            lambda: self._jobs.succeed(
                claim, exported.artifacts, measured, outcome, environment, exported.failed
            )
        )

    def _glance(self) -> None:
        """Says at once, before anything trains, where model and data set do not seem to belong together. The
        job goes on: its owner may know better.
        """
        claim = self.claim
        begun = claim.done or claim.checkpoint_sha256 is not None or claim.trial is not None
        if begun or self._seen is None or not any(step.trains for step in self._steps):
            return
        original = self._desk.file(claim.model_sha256)
        look = Glance(original=original, data=self._seen, seed=claim.seed, task=self._recipe.task)
        try:
            doubts = cast("Glanced", self._run(look).result).doubts
        except CompressionError as error:
            _log.warning("no look at the samples", reason=error.code)
            return
        for doubt in doubts:
            self._lease.say(doubt)

    @cached_property
    def _steps(self) -> tuple[Technique, ...]:
        """None of a conversion: its recipe says how the artifact was made."""
        return () if self.claim.artifact_sha256 else self._recipe.steps

    def _step(self, index: int, step: Technique, model: StepOutput) -> StepOutput:
        output = self.claim.done[index] if index < len(self.claim.done) else self._undone(index, step, model)
        self._outputs.append(output)
        return output

    def _undone(self, index: int, step: Technique, model: StepOutput) -> StepOutput:
        self._lease.span = self._span(index)
        self.bench.insist(lambda: self._jobs.step_started(self.claim, index))
        key = self._key(step, model)
        output = self._cached(key) or self._apply(index, step, model)
        if self.claim.cache != "off" and not output.cache_hit:
            self.bench.insist(lambda: self._jobs.remember(self.claim, key, output))
        self.bench.insist(lambda: self._jobs.step_completed(self.claim, index, output))
        return output

    def _cached(self, key: str) -> StepOutput | None:
        if self.claim.cache != "use":
            return None
        return self.bench.insist(lambda: self._jobs.cached(self.claim, key))

    def _apply(self, index: int, step: Technique, model: StepOutput) -> StepOutput:
        file = self._desk.file
        operation = Apply(
            step=canonical(step),
            model=file(model.sha256),
            data=self._seen,
            seed=self.claim.seed,
            threads=self.bench.threads,
            original=file(self.claim.model_sha256) if step.trains else None,
            models={name: file(self.claim.models[name]) for _, name in step.references()},
            task=self._recipe.task,
            resume=self._resumed(index),
        )
        directory, limit = self._desk.directory, self._limits().disk_bytes
        begun = time.monotonic()
        with Checkpoints(directory, limit, lambda path: self._checkpoint(index, path)) as checkpoints:
            done = self._run(operation, checkpoints)
        result = cast("StepResult", done.result)
        sha256, size = self._desk.keep(cast("Path", done.output))
        details = {**result.details, "seconds": round(time.monotonic() - begun, 3)}
        return StepOutput(sha256, size, details, result.inspection)

    def _resumed(self, index: int) -> Path | None:
        """The checkpoint of an earlier attempt at this step; without its bytes the step starts afresh."""
        if self.claim.checkpoint_sha256 is None or index != len(self.claim.done):
            return None
        try:
            found = self._desk.file(self.claim.checkpoint_sha256)
        except CompressionError as error:
            if error.kind is ErrorKind.INFRASTRUCTURE:
                raise
            _log.warning("checkpoint lost", reason=error.code)
            self._lease.say("the checkpoint of the earlier attempt is lost: this step starts afresh")
            return None
        self._lease.say("going on from the checkpoint of the earlier attempt")
        return found

    def _checkpoint(self, index: int, path: Path) -> None:
        """Not insisted on: another follows. Errors: CompressionError."""
        services = self.bench.services
        blob = services.blobs.put_file(path)
        before = self._jobs.checkpointed(self.claim, index, blob)
        if before is not None:
            services.sweep.drop(self.claim.project_id, before)

    def _span(self, index: int) -> tuple[float, float]:
        """Start and length of a step's part of the job; measuring and every other format have one too."""
        parts = len(self._steps) + 1 + sum(name != "onnx" for name in self.claim.formats)
        return index / parts, 1 / parts

    def _measure(self, final: StepOutput) -> list[Measurements]:
        """What each step gave, or of a trial all together, in a fresh child, by the plain runtime, beside the
        original.
        """
        trial = self.claim.trial is not None
        outputs = [final] if trial else self._outputs or [final]
        self._lease.span = self._span(len(self._steps))
        self._lease.phase("measuring")
        operation = Measure(
            original=self._desk.file(self.claim.model_sha256),
            compressed=[self._desk.file(output.sha256) for output in outputs],
            data=self._seen if trial else self._data,
            seed=self.claim.seed,
            task=self._recipe.task,
            classes=_classes(self.claim),
            quick=trial,
        )
        return cast("Measured", self._run(operation).result).measurements

    def _export(self, final: StepOutput, measured: Measurements) -> Exported:
        """Errors: CompressionError where a conversion gave nothing, Stop."""
        exporting = Exporting(self._desk, self.claim, self._run, self._data)
        names = [name for name in self.claim.formats if name != "onnx"]
        if "onnx" in self.claim.formats and self.claim.artifact_sha256 is None:
            exporting.keep(final, measured)
        for at, name in enumerate(names):
            self._lease.span = self._span(len(self._steps) + 1 + at)
            self._lease.phase(f"exporting {name}")
            exporting.convert(name, final, measured)
        return exporting.done()

    def _run(self, operation: Operation, checkpoints: Checkpoints | None = None) -> Done:
        begun, directory = time.monotonic(), self._desk.directory
        try:
            return self.bench.sandbox.run(operation, self._limits(), directory, self._lease, checkpoints)
        finally:
            self._core_seconds += time.monotonic() - begun

    @cached_property
    def _data(self) -> Path | None:
        return None if self.claim.data_sha256 is None else self._desk.file(self.claim.data_sha256)

    @cached_property
    def _seen(self) -> Path | None:
        """What steps see of the data set: for a search, all but what it is proved with."""
        sha256 = self._seen_sha256
        return None if sha256 is None else self._desk.file(sha256)

    @cached_property
    def _seen_sha256(self) -> str | None:
        claim = self.claim
        if claim.search_id is None or claim.data_sha256 is None:
            return claim.data_sha256
        if source(claim.data_inspection) is None:
            return None
        most = most_samples(claim.model_inspection)
        key = hashlib.sha256(f"{_CARVED} {most} {claim.data_sha256}".encode()).hexdigest()
        found = self.bench.insist(lambda: self._jobs.cached(claim, key))
        if found is None:
            done = self._run(Carve(data=cast("Path", self._data), most=most))
            # the cache of steps keeps an inspection of what came out, and of a data set nobody asks for it
            found = StepOutput(*self._desk.keep(cast("Path", done.output)), {}, claim.model_inspection)
            kept = found
            self.bench.insist(lambda: self._jobs.remember(claim, key, kept))
        return found.sha256

    def _limits(self) -> Limits:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise timed_out(self.claim.timeout_seconds)
        return self.bench.limits(left)

    def _key(self, step: Technique, model: StepOutput) -> str:
        """The same key means the same bytes: everything that decides them is in it."""
        parts = {
            "model": model.sha256,
            "data": self._seen_sha256 if step.required() else None,
            "original": self.claim.model_sha256 if step.trains else None,
            "models": {name: self.claim.models[name] for _, name in step.references()},
            "threads": self.bench.threads if step.trains else None,
            "step": canonical(step),
            "task": self._recipe.task,
            "seed": self.claim.seed,
            "technique_version": step.version,
            "versions": self.bench.environment["versions"],
            "device": [self.claim.target, self.bench.environment["hardware"]["cpu"]],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _classes(claim: JobClaim) -> tuple[str, ...]:
    """Their names, in order: as the data set has them, else as the model does."""
    named = claim.data_inspection.classes if claim.data_inspection is not None else ()
    return named or claim.model_inspection.classes
