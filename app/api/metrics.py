from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from starlette.responses import Response

from app.api.context import Wired
from app.api.routing import resource
from app.domain.errors import DatabaseUnavailable

router = resource("", "service")
_JOBS = Gauge("pare_jobs", "Jobs that are not over", ["queue", "state"])
_EXAMPLE = 'pare_jobs{queue="cpu",state="queued"} 3.0\n'


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=Response,
    responses={200: {"description": "Done", "content": {"text/plain": {"example": _EXAMPLE}}}},
)
def metrics(services: Wired) -> Response:
    _JOBS.clear()
    try:
        for (queue, state), count in services.jobs.counts().items():
            _JOBS.labels(queue, state).set(count)
    except DatabaseUnavailable:
        pass  # the other numbers are wanted all the more
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
