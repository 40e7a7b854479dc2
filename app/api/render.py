"""Records to JSON: plain dictionaries for one fast encoder, nothing validated twice."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app.domain.records import (
    Artifact,
    Event,
    Inspected,
    Job,
    Page,
    Search,
    SearchTrial,
    Step,
    Upload,
    Worker,
)
from compression.measurement import Measurements
from compression.search.budget import Budget, cost, excesses
from compression.search.frontier import AXES, Axis

T = TypeVar("T")
Body = dict[str, Any]


def when(milliseconds: int | None) -> str | None:
    """RFC 3339 in UTC."""
    if milliseconds is None:
        return None
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(body), status, headers, "application/json")


def tagged(request: Request, body: object) -> Response:
    """With an ETag; 304 if the client has this very answer."""
    content = to_json(body)
    etag = f'"{blake2b(content, digest_size=16).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    given = request.headers.get("if-none-match")
    if given is not None and matches(given, etag):
        return Response(None, 304, headers)
    return Response(content, 200, headers, "application/json")


def matches(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in given.split(","))


def listed(page: Page[T], render: Callable[[T], Body]) -> Response:
    cursor = page.next_cursor
    return answer(
        {"data": [render(item) for item in page.data], "has_more": cursor is not None, "next_cursor": cursor}
    )


def upload(item: Upload) -> Body:
    return {
        "id": item.id,
        "state": item.state,
        "purpose": item.purpose,
        "filename": item.filename,
        "bytes": item.bytes,
        "sha256": item.sha256,
        "content_url": f"/v1/uploads/{item.id}/content",
        "created_at": when(item.created_at),
        "completed_at": when(item.completed_at),
    }


def inspected(item: Inspected) -> Body:
    return {
        "id": item.id,
        "state": item.state,
        "name": item.name,
        "labels": item.labels,
        "filename": item.filename,
        "source_sha256": item.source_sha256,
        "source_bytes": item.source_bytes,
        "sha256": item.sha256,
        "bytes": item.bytes,
        "inspection": item.inspection,
        "error": item.error,
        "created_at": when(item.created_at),
        "ready_at": when(item.ready_at),
    }


def artifact(item: Artifact) -> Body:
    return {
        "id": item.id,
        "job_id": item.job_id,
        "format": item.format,
        "filename": item.filename,
        "sha256": item.sha256,
        "bytes": item.bytes,
        "bytes_zstd": item.bytes_zstd,
        "runtime": item.runtime,
        "provenance": item.provenance,
        "proof": item.proof,
        "content_url": f"/v1/artifacts/{item.id}/content",
        "bundle_url": f"/v1/artifacts/{item.id}/bundle" if item.bundle_sha256 else None,
        "bundle_bytes": item.bundle_bytes,
        "created_at": when(item.created_at),
    }


def job(item: Job) -> Body:
    return {
        "id": item.id,
        "state": item.state,
        "phase": item.phase,
        "progress": item.progress,
        "queue": item.queue,
        "queue_position": item.queue_position,
        "model_id": item.model_id,
        "dataset_id": item.dataset_id,
        "recipe": item.recipe,
        "seed": item.seed,
        "cache": item.cache,
        "cache_hits": item.cache_hits,
        "target": item.target,
        "timeout_seconds": item.timeout_seconds,
        "labels": item.labels,
        "formats": item.formats,
        "failed_formats": item.failed_formats,
        "artifact_id": item.artifact_id,
        "search_id": item.search_id,
        "trial": item.trial,
        "attempts": item.attempts,
        "outcome": item.outcome,
        "outcome_reasons": item.outcome_reasons,
        "measurements": item.measurements,
        "artifacts": [artifact(made) for made in item.artifacts],
        "environment": item.environment,
        "error": item.error,
        "created_at": when(item.created_at),
        "started_at": when(item.started_at),
        "finished_at": when(item.finished_at),
    }


def search(item: Search) -> Body:
    return {
        "id": item.id,
        "state": item.state,
        "progress": _progress(item),
        "model_id": item.model_id,
        "dataset_id": item.dataset_id,
        "budget": item.budget,
        "seed": item.seed,
        "cache": item.cache,
        "target": item.target,
        "labels": item.labels,
        "formats": item.formats,
        "judged_by": item.judged_by,
        "trials": item.trials,
        "cache_hits": item.cache_hits,
        "elapsed_seconds": item.elapsed_ms / 1000,
        "chosen": item.chosen,
        "proof_job_id": item.proof_job_id,
        "proof": None if item.proof is None else job(item.proof),
        "outcome": item.outcome,
        "outcome_reasons": item.outcome_reasons,
        "notes": item.notes,
        "error": item.error,
        "created_at": when(item.created_at),
        "finished_at": when(item.finished_at),
    }


def _progress(item: Search) -> float:
    """By the time or by the trials, whichever ends first."""
    if item.state.over:
        return 1.0
    begun = sum(item.trials.values()) - sum(item.trials.get(state, 0) for state in ("queued", "running"))
    part = max(begun / item.budget["trials"], item.elapsed_ms / 1000 / item.budget["seconds"])
    return float(min(round(part, 4), 0.99))


_SHORT: Mapping[str, Any] = {"layers": [], "slices": []}


def trial(of: Search, item: SearchTrial, axes: Sequence[Axis] = AXES) -> Body:
    measured = None if item.measurements is None else Measurements.model_validate(item.measurements)
    costs = {} if measured is None else {axis: cost(axis, measured) for axis in axes}
    broken = [] if measured is None else excesses(Budget.model_validate(of.budget), measured)
    return {
        "number": item.number,
        "job_id": item.job_id,
        "state": item.state,
        "recipe": item.recipe,
        "share": item.planned["share"],
        "seconds": item.seconds,
        "cache_hits": item.cache_hits,
        "measurements": None if item.measurements is None else {**item.measurements, **_SHORT},
        "point": {axis: value for axis, value in costs.items() if value is not None},
        "broken": [excess.model_dump() for excess in broken],
        "error": item.error,
        "started_at": when(item.started_at),
        "finished_at": when(item.finished_at),
    }


def step(item: Step) -> Body:
    return {
        "index": item.index,
        "technique": item.technique,
        "parameters": item.parameters,
        "state": item.state,
        "cache_hit": item.cache_hit,
        "output_sha256": item.output_sha256,
        "details": item.details,
        "inspection": item.inspection,
        "measurements": item.measurements,
        "started_at": when(item.started_at),
        "completed_at": when(item.completed_at),
    }


def report(item: Job, steps: Sequence[Step]) -> Body:
    return {**job(item), "steps": [step(done) for done in steps]}


def event(item: Event) -> Body:
    return {"id": item.id, "type": item.type, "timestamp": when(item.timestamp), "data": item.data}


def worker(item: Worker) -> Body:
    return {
        "id": item.id,
        "alive": item.alive,
        "queues": item.queues,
        "concurrency": item.concurrency,
        "hardware": item.hardware,
        "versions": item.versions,
        "sandbox": item.sandbox,
        "started_at": when(item.started_at),
        "seen_at": when(item.seen_at),
    }
