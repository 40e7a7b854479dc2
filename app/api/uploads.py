import asyncio
import functools
from asyncio import Semaphore
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

from fastapi import Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api import examples, render, schemas
from app.api.bodies import Pace
from app.api.context import Project, Wired
from app.api.documents import answers, json_body, raw_body
from app.api.lending import Lent, borrow, drain
from app.api.once import Guard
from app.api.requests import UploadRequest, parsed
from app.api.routing import resource
from app.services.uploads import Receiving
from compression.errors import CompressionError

T = TypeVar("T")
router = resource("/v1/uploads", "uploads")
_BATCH = 4 << 20
_LARGE = 16 << 20
LANES = 4
_writers = ThreadPoolExecutor(2 * LANES, "upload")


@router.post(
    "",
    status_code=201,
    summary="Announce a file",
    response_model=schemas.Upload,
    responses=answers(201, examples.UPLOAD),
    openapi_extra=json_body(UploadRequest, *examples.UPLOAD_REQUESTS),
)
def create_upload(
    services: Wired, project: Project, once: Guard, body: Annotated[UploadRequest, parsed(UploadRequest)]
) -> Response:
    """Then PUT the bytes to `content_url`. With `sha256`, bytes that this project has sent before complete it
    at once.
    """
    create = functools.partial(services.uploads.create, project, body.order())
    return once(create, render.upload, 201, lambda made: f"/v1/uploads/{made.id}")


@router.put(
    "/{upload_id}/content",
    summary="Send the bytes",
    response_model=schemas.Upload,
    responses=answers(200, examples.UPLOAD_COMPLETED),
    openapi_extra=raw_body("the file as it is, in one body"),
)
async def put_upload_content(
    request: Request,
    services: Wired,
    project: Project,
    upload_id: str,
    content_length: Annotated[int | None, Header(include_in_schema=False)] = None,
) -> Response:
    """The raw bytes, streamed. When the answer comes they are checked, durable, and will not be lost."""
    receiving = await run_in_threadpool(services.uploads.receive, project, upload_id, content_length)
    try:
        lent = await _receive(request, receiving, Pace(services.settings))
        done = await _in_thread(receiving.finish)
    except BaseException:
        await asyncio.shield(_in_thread(receiving.abort))
        raise
    return render.answer(render.upload(done), headers={"Connection": "close"} if lent else None)


@router.get(
    "/{upload_id}",
    summary="One upload",
    response_model=schemas.Upload,
    responses=answers(200, examples.UPLOAD),
)
def get_upload(services: Wired, project: Project, upload_id: str) -> Response:
    return render.answer(render.upload(services.uploads.get(project, upload_id)))


@router.delete("/{upload_id}", status_code=204, summary="Forget an upload")
def delete_upload(services: Wired, project: Project, upload_id: str) -> None:
    """Models and data sets made from it stay."""
    services.uploads.delete(project, upload_id)


async def _receive(request: Request, receiving: Receiving, pace: Pace) -> bool:
    """Large bodies of known length through a few fast lanes; what finds none free takes the ordinary way.

    True: the connection was lent, and ends with the answer.
    """
    lanes: Semaphore = request.app.state.upload_lanes
    large = receiving.upload.bytes >= _LARGE and "content-length" in request.headers
    if large and not lanes.locked():
        async with lanes:
            lent = borrow(request.scope)
            if lent is not None:
                await _ended(_in_thread(drain, lent, receiving, pace), lent)
                return True
    await _stream(request, receiving, pace)
    return False


async def _ended(draining: asyncio.Future[None], lent: Lent) -> None:
    """Also if the request is cancelled: nobody may close the file under the thread's hands."""
    try:
        await asyncio.shield(draining)
    except asyncio.CancelledError:
        lent.hang_up()
        await asyncio.wait([draining])
        raise


async def _stream(request: Request, receiving: Receiving, pace: Pace) -> None:
    """Batches go to a thread that hashes and writes while the next one arrives: one is in work, one is
    filling.
    """
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    size = total = 0
    try:
        async for chunk in _chunks(request, pace):
            batch.append(chunk)
            size += len(chunk)
            if size >= _BATCH:
                total += size
                pace.received(total)
                if writing is not None:
                    await writing
                writing = _in_thread(receiving.write, batch)
                batch, size = [], 0
    finally:
        if writing is not None:
            await writing
    await _in_thread(receiving.write, batch)


async def _chunks(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    more = True
    while more:
        async with pace:
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CompressionError(
                "bad_request", "The client left in the middle of the body; nothing was kept."
            )
        more = message.get("more_body", False)
        if chunk := message.get("body", b""):
            yield chunk


def _in_thread(act: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(_writers, act, *arguments)
