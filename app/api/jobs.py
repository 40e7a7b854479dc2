import functools
from typing import Annotated

from fastapi import Depends, Query, Request
from starlette.responses import Response

from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers, json_body
from app.api.once import Guard
from app.api.paging import Paged
from app.api.requests import JobRequest, parsed
from app.api.routing import resource
from app.api.waiting import Wait, look_until
from app.domain.records import Job
from app.domain.states import JobState
from app.services.jobs import Filter

router = resource("/v1/jobs", "jobs")


@router.post(
    "",
    status_code=202,
    summary="Compress a model",
    response_model=schemas.Job,
    responses=answers(202, examples.JOB),
    openapi_extra=json_body(JobRequest, *examples.JOB_REQUESTS),
)
def create_job(
    services: Wired, project: Project, once: Guard, body: Annotated[JobRequest, parsed(JobRequest)]
) -> Response:
    """Model and data set must be `ready` (409 `model_not_ready` otherwise: `GET /v1/models/{id}?wait=30`
    waits for it).
    That the steps can run on them is checked here: a job that cannot work is refused, with the reason."""
    submit = functools.partial(services.jobs.submit, project, body.order())
    return once(submit, render.job, 202, _address)


def _wanted(
    state: Annotated[JobState | None, Query()] = None,
    model_id: Annotated[str | None, Query(max_length=64)] = None,
    label: Annotated[
        str | None,
        Query(pattern="^[^:]+:", max_length=320, description="`name:value`", examples=["team:vision"]),
    ] = None,
    search_id: Annotated[
        str | None, Query(max_length=64, description="its trials, which are left out otherwise, and proofs")
    ] = None,
) -> Filter:
    name, _, value = (label or "").partition(":")
    return Filter(state, model_id, (name, value) if name else None, search_id)


Wanted = Annotated[Filter, Depends(_wanted)]


@router.get(
    "",
    summary="List jobs",
    response_model=schemas.Page[schemas.Job],
    responses=answers(200, examples.listed(examples.JOB_SUCCEEDED)),
)
def list_jobs(services: Wired, project: Project, cut: Paged, wanted: Wanted) -> Response:
    """Newest first. `queue_position` is only told by GET of one job."""
    return render.listed(services.jobs.list(project, cut, wanted), render.job)


@router.get(
    "/{job_id}", summary="One job", response_model=schemas.Job, responses=answers(200, examples.JOB_SUCCEEDED)
)
async def get_job(
    request: Request, services: Wired, project: Project, job_id: str, wait: Wait = 0
) -> Response:
    """With `wait` the answer comes when the job is over or the time is up. Send the ETag as If-None-Match:
    304 if nothing
    changed."""
    look = functools.partial(services.jobs.get, project, job_id)
    job = await look_until(request, job_id, look, lambda found: found.state.over, wait)
    return render.tagged(request, render.job(job))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=schemas.Job,
    responses=answers(202, examples.JOB_CANCELLING),
)
def cancel_job(services: Wired, project: Project, job_id: str, once: Guard) -> Response:
    """A queued job is cancelled at once, a running one within seconds. 409 if it is over."""
    return once(functools.partial(services.jobs.cancel, project, job_id), render.job, 202, _address)


@router.delete("/{job_id}", status_code=204, summary="Delete a job that is over")
def delete_job(services: Wired, project: Project, job_id: str) -> None:
    """With its steps, events and artifacts."""
    services.jobs.delete(project, job_id)


def _address(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
