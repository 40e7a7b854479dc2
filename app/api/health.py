from collections.abc import Callable

from fastapi import Request
from starlette.responses import Response

from app.api import render, schemas, service_examples
from app.api.context import Wired
from app.api.documents import answers
from app.api.routing import resource
from compression.errors import CompressionError

router = resource("", "service")


@router.get(
    "/healthz",
    summary="Is it alive",
    response_model=schemas.Health,
    responses=answers(200, service_examples.HEALTH),
)
async def healthz(request: Request) -> Response:
    return render.answer({"status": "ok", "version": request.app.version})


@router.get(
    "/readyz",
    summary="Can it work",
    response_model=schemas.Readiness,
    responses={
        **answers(200, service_examples.READINESS),
        503: {"model": schemas.Readiness, "description": "A part is away"},
    },
)
def readyz(services: Wired) -> Response:
    """503 and which part is missing, if the database, Redis, the blob store or every worker is away."""
    checks = {
        "database": _passes(services.database.ping),
        "redis": _passes(services.queue.check),
        "blobs": _passes(services.blobs.check),
        "worker": _passes(services.workers.seen),
    }
    ready = all(checks.values())
    return render.answer({"ready": ready, "checks": checks}, 200 if ready else 503)


def _passes(check: Callable[[], bool | None]) -> bool:
    try:
        return check() is not False
    except CompressionError:
        return False
