"""Bodies are bounded in size and in time, and JSON is JSON: checked before any endpoint sees it."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import context
from app.api.problems import problem
from app.settings import Settings
from compression.errors import CompressionError, Suggestion

_NONE = {"GET", "HEAD", "OPTIONS"}
_FRAME = 64 << 10  # what a form needs around its file


class Bodies:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _NONE or scope["path"].endswith("/content"):
            await self._app(scope, receive, send)
            return
        try:
            checked = await self._checked(scope, receive)
        except CompressionError as error:
            await problem(scope, error, {"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, checked, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        headers = dict(scope["headers"])
        media = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        form = media == b"multipart/form-data"
        limit = self._settings.max_form_bytes + _FRAME if form else self._settings.max_json_bytes
        _fits(headers, limit)
        bounded = Bounded(receive, limit, self._settings)
        if form:
            return bounded
        body = await bounded.whole()
        if body:
            _is_json(media)
            check_json(body)
        context(scope).body = body
        return _replay(body)


class Bounded:
    """Counts what is received and gives up on a body that is too long or too slow."""

    def __init__(self, receive: Receive, limit: int, settings: Settings) -> None:
        self._receive = receive
        self._limit = limit
        self._received = 0
        self._pace = Pace(settings)

    async def __call__(self) -> Message:
        async with self._pace:
            message = await self._receive()
        self._received += len(message.get("body", b""))
        self._pace.received(self._received)
        if self._received > self._limit:
            raise too_large(self._limit)
        return message

    async def whole(self) -> bytes:
        parts: list[bytes] = []
        while True:
            message = await self()
            if message["type"] == "http.disconnect":
                raise CompressionError("bad_request", "The client left in the middle of the body.")
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)


class Pace:
    """`async with` around each wait for bytes. Errors: `request_timeout` if none come, or too slowly."""

    def __init__(self, settings: Settings) -> None:
        self._idle = settings.body_idle_seconds
        self._rate = settings.body_min_rate
        self._started = time.monotonic()
        self._bytes = 0
        self._timeout = asyncio.timeout(None)

    def received(self, total: int) -> None:
        self._bytes = total

    def left(self) -> float:
        """Seconds until patience ends."""
        passed = time.monotonic() - self._started
        return min(self._idle, self._idle + self._bytes / self._rate - passed)

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(self.left())
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036  handed on as they come
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            raise too_slow() from None


def too_large(limit: int) -> CompressionError:
    return CompressionError("too_large", f"The body may have {limit} bytes at most.")


def too_slow() -> CompressionError:
    return CompressionError("request_timeout", "The body came too slowly; nothing was kept.")


def _fits(headers: dict[bytes, bytes], limit: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)


def _is_json(media: bytes) -> None:
    if media and media != b"application/json" and not media.endswith(b"+json"):
        raise CompressionError(
            "unsupported_media_type",
            "The body must be JSON.",
            suggestions=[Suggestion("Send the header `Content-Type: application/json`")],
        )


def check_json(body: bytes) -> None:
    """Errors: `invalid_json` for what is no JSON, for NaN and infinities, lone surrogates, too deep nesting
    and
    members that occur twice: parsers disagree on those, so nobody is left to guess.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=_unique, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CompressionError("invalid_json", f"The body is not valid JSON: {error}") from None
    del value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice in an object")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError("a number is too large")
    return number


def _replay(body: bytes) -> Receive:
    message: Message = {"type": "http.request", "body": body, "more_body": False}
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:  # nothing reads on but a listener for disconnects, which there is none of
            return {"type": "http.disconnect"}
        sent = True
        return message

    return receive
