import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from app.adapters.notify import Listener
from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource
from app.domain.records import Event
from app.services.jobs import JobService

router = resource("/v1/jobs/{job_id}/events", "jobs")
STREAM = "text/event-stream"
_HEARTBEAT = 15.0
_LOOK_EVERY = 2.0
_PAGE = 100

_Id = Annotated[int, Query(ge=0, le=2**31 - 1, description="id of the last event seen")]
_Last = Annotated[int, Header(ge=0, le=2**31 - 1, description="the same, as browsers send it")]
_Limit = Annotated[int, Query(ge=1, le=100)]


@dataclass(frozen=True)
class Since:
    after: _Id = 0
    limit: _Limit = 100
    last_event_id: _Last = 0


@router.get(
    "",
    summary="What happened to a job",
    response_model=schemas.Events,
    responses=answers(200, examples.EVENTS),
)
async def list_events(
    request: Request,
    services: Wired,
    project: Project,
    job_id: str,
    since: Annotated[Since, Depends()],
) -> Response:
    """A page of JSON; or, with `Accept: text/event-stream`, a stream that ends with the job. After a lost
    connection
    send the last id as `Last-Event-ID`: no event is missed or repeated."""
    jobs = services.jobs
    await run_in_threadpool(jobs.exists, project, job_id)
    after = max(since.after, since.last_event_id)
    if STREAM in request.headers.get("accept", ""):
        listener: Listener = request.app.state.listener
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(jobs, listener, project, job_id, after), 200, headers, STREAM)
    found = await run_in_threadpool(jobs.events, project, job_id, after, since.limit + 1)
    shown = found[: since.limit]
    last = shown[-1].id if shown else after
    body = {
        "data": [render.event(event) for event in shown],
        "has_more": len(found) > since.limit,
        "next_cursor": str(last),
    }
    return render.answer(body)


async def _stream(
    jobs: JobService, listener: Listener, project: str, job_id: str, after: int
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    said = loop.time()
    yield b"retry: 2000\n\n"
    with listener.listening(job_id) as woken:
        while True:
            woken.clear()
            over = (await run_in_threadpool(jobs.exists, project, job_id)).over
            events = await run_in_threadpool(jobs.events, project, job_id, after, _PAGE)
            if events:
                after, said = events[-1].id, loop.time()
                yield b"".join(_frame(event) for event in events)
            elif over:
                return
            elif loop.time() - said >= _HEARTBEAT:
                said = loop.time()
                yield b": heartbeat\n\n"
            if len(events) < _PAGE and not over:
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), _LOOK_EVERY)


def _frame(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), to_json(render.event(event)))
