"""Nobody gets past `/v1` without a key. A pure ASGI layer: it answers before a byte of the body is read."""

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import context
from app.api.problems import problem
from app.domain.keys import Principal
from app.services.keys import KeyService
from compression.errors import CompressionError, Suggestion

_WAY = Suggestion("Send the header `Authorization: Bearer pare_…`; in Swagger UI use the button Authorize.")


class Access:
    def __init__(self, app: ASGIApp, keys: KeyService) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _closed(scope["path"]):
            try:
                principal = await self._principal(scope)
            except CompressionError as error:
                await problem(scope, error)(scope, receive, send)
                return
            if principal is None:
                refusal = CompressionError("unauthorized", "No valid API key was sent.", suggestions=[_WAY])
                await problem(scope, refusal, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
            context(scope).principal = principal
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal | None:
        key = _bearer(scope)
        if key is None:
            return None
        return self._keys.remembered(key) or await run_in_threadpool(self._keys.verify, key)


def _closed(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else None
    return None
