"""The outermost layer: a request id, a log line, the counters of /metrics."""

import re
import time
from functools import lru_cache

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import begin
from app.domain.ids import new_id

log = structlog.get_logger()
REQUESTS = Counter("pare_http_requests", "Answers by route and status", ["method", "route", "status"])
SECONDS = Histogram(
    "pare_http_seconds",
    "Time to the first byte of the answer",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_READS = {"GET", "HEAD"}


class Observe:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = begin(scope, _request_id(scope)).request_id
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                _count(scope, status, time.perf_counter() - started)
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, watched)
        finally:
            _say(scope, status, time.perf_counter() - started)
            structlog.contextvars.clear_contextvars()


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN.fullmatch(value):
            return str(value.decode())
    return new_id("req")


def _route(scope: Scope) -> str:
    """The template, never the path: one label a route."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _count(scope: Scope, status: int, seconds: float) -> None:
    requests, times = _counters(scope["method"], _route(scope), status)
    requests.inc()
    times.observe(seconds)


@lru_cache(2048)
def _counters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Looking a label up costs more than counting."""
    return REQUESTS.labels(method, route, status), SECONDS.labels(method, route)


def _say(scope: Scope, status: int, seconds: float) -> None:
    """What changed something or went wrong; reads that went well are only counted."""
    if scope["method"] in _READS and status < 400:
        return
    log.info(
        "request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1)
    )
