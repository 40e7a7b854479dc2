"""What is known of a request before any endpoint runs: set by the outer layers, read by endpoints and
problems.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from starlette.types import Scope

from app.bootstrap import Services
from app.domain.keys import Principal

_KEY = "pare"


@dataclass(slots=True)
class RequestContext:
    request_id: str
    principal: Principal | None = None
    body: bytes = b""
    """Of JSON requests: whole and checked."""
    extra: dict[str, Any] = field(default_factory=dict)


def context(scope: Scope) -> RequestContext:
    return cast("RequestContext", scope[_KEY])


def begin(scope: Scope, request_id: str) -> RequestContext:
    scope[_KEY] = made = RequestContext(request_id)
    return made


async def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


async def _project(request: Request) -> str:
    """Only behind the access layer, which lets nobody in without a key."""
    return cast("Principal", context(request.scope).principal).project_id


Wired = Annotated[Services, Depends(_services)]
Project = Annotated[str, Depends(_project)]
