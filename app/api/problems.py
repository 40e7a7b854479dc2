"""RFC 9457 for every refusal and failure: one table from codes to statuses, one shape for all."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.api.context import context
from app.domain.errors import Conflict, ErrorRecord, Invalid, Unavailable
from compression.errors import CompressionError, ErrorKind, FieldError, Suggestion

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"

_STATUS = {
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "request_timeout": 408,
    "too_large": 413,
    "format_mismatch": 415,
    "format_refused": 415,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "invalid_json": 400,
    "bad_request": 400,
    "artifact_corrupt": 503,
    "storage_full": 507,
}
_KINDS = {ErrorKind.INFRASTRUCTURE: 503, ErrorKind.INTERNAL: 500}
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


class Refusal(CompressionError):
    """With headers of its own."""

    def __init__(self, code: str, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(code, detail)
        self.headers = headers


def status_of(error: CompressionError) -> int:
    if isinstance(error, Conflict):
        return 409
    return _STATUS.get(error.code) or _KINDS.get(error.kind, 422)


def problem(scope: Scope, error: CompressionError, headers: Mapping[str, str] | None = None) -> Response:
    status = status_of(error)
    retryable = isinstance(error, Unavailable) or status in {408, 507}
    record = ErrorRecord.of(error).json()
    body = {
        **{name: record[name] for name in ("type", "title")},
        "status": status,
        "detail": error.detail,
        "instance": scope.get("path", ""),
        "code": error.code,
        "errors": record["errors"],
        "suggestions": record["suggestions"],
        "retryable": retryable,
        "request_id": context(scope).request_id,
    }
    sent = dict(headers or {})
    if scope["method"] == "PUT":
        sent["Connection"] = "close"  # the rest of the body is not read
    if status == 503:
        sent.setdefault("Retry-After", RETRY_AFTER)
    return Response(to_json(body), status, sent, MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> Response:
    error = cast("CompressionError", error)
    if status_of(error) >= 500:
        log.warning("request.failed", code=error.code, exc_info=error.__cause__)
    return problem(request.scope, error, error.headers if isinstance(error, Refusal) else None)


async def on_http(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown routes, methods, forms it cannot read."""
    error = cast("HTTPException", error)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    detail = {"not_found": "There is no such address.", "method_not_allowed": "Not by this method."}
    refusal = CompressionError(code, detail.get(code, str(error.detail)))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return problem(request.scope, refusal, headers)


def _allowed(request: Request) -> str:
    """Of all routes with this path: the framework names those of the first."""
    scope = request.scope
    found: set[str] = set()
    for route in request.app.routes:
        for method in getattr(route, "methods", None) or ():
            if route.matches({**scope, "method": method})[0] is Match.FULL:
                found.add(method)
    return ", ".join(sorted(found))


async def on_invalid(request: Request, error: Exception) -> Response:
    error = cast("RequestValidationError", error)
    return problem(request.scope, refused(error.errors(), error.body))


async def on_crash(request: Request, error: Exception) -> Response:
    """Ours: said without a word of what it was; the log has it under the same request id."""
    log.error("request.crashed", exc_info=error)
    return problem(
        request.scope, CompressionError("internal_error", "This is our fault.", ErrorKind.INTERNAL)
    )


def refused(errors: Sequence[Any], body: object) -> Invalid:
    """Pydantic's errors, each with a JSON pointer into the body or `/name` of a parameter."""
    told = [error for error in errors if not _echo(error, errors)]
    fields = [FieldError(pointer(error["loc"], body), _sentence(error)) for error in told]
    ways = [way for error in errors if (way := _way_out(error))]
    return Invalid("validation_error", "The request is not valid.", fields, *ways)


def _echo(error: Mapping[str, Any], errors: Sequence[Any]) -> bool:
    """A list is also called too short where its items were refused: that is not the trouble."""
    here = error["loc"]
    inside = (other["loc"] for other in errors if len(other["loc"]) > len(here))
    return error["type"] == "too_short" and any(loc[: len(here)] == here for loc in inside)


def pointer(location: Sequence[str | int], body: object) -> str:
    """RFC 6901. Pydantic also names the branch of a union it tried: that is no part of the body and is left
    out.
    """
    parts = []
    here: Any = body
    for part in location[1:] if location and location[0] in {"body", "query", "path", "header"} else location:
        if isinstance(here, Mapping) and part not in here and part == here.get("technique"):
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        here = _member(here, part)
    return "".join(f"/{part}" for part in parts)


def _member(here: Any, part: str | int) -> Any:
    if isinstance(here, Mapping):
        return here.get(part)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return None


def _sentence(error: Mapping[str, Any]) -> str:
    """Without the value: it may be long, and it may be somebody's secret."""
    return str(error["msg"])


def _way_out(error: Mapping[str, Any]) -> Suggestion | None:
    """A known name close to one that is not known."""
    context_ = error.get("ctx", {})
    if error["type"] != "union_tag_invalid":
        return None
    known = [name.strip(" '") for name in context_["expected_tags"].split(",")]
    near = get_close_matches(str(context_["tag"]), known, 1) or known
    return Suggestion(f"Known: {', '.join(known)}. Did you mean {near[0]!r}?")
