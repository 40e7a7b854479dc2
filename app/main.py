"""The web application: `create_app(settings)`, or `app.main:app` for a server that is told by the
environment.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from app.adapters.logs import configure
from app.adapters.notify import Listener
from app.api import (
    advice,
    artifacts,
    capabilities,
    datasets,
    docs,
    documents,
    events,
    health,
    jobs,
    metrics,
    models,
    problems,
    reports,
    searches,
    steps,
    techniques,
    uploads,
    workers,
)
from app.api.access import Access
from app.api.bodies import Bodies
from app.api.observe import Observe
from app.api.once import Flights
from app.bootstrap import Services, bootstrap
from app.settings import Settings
from compression.errors import CompressionError

_DESCRIPTION = """Makes trained neural networks smaller and faster, and proves it.

The main job: announce an upload (`POST /v1/uploads`) and `PUT` its bytes, or send a small file by the form;
register one file as a model and another as a data set; `POST /v1/jobs` with their ids; follow the job;
download its artifact and report."""
_TAGS = [
    {"name": "uploads", "description": "Bytes in"},
    {"name": "models", "description": "What is compressed"},
    {"name": "datasets", "description": "What it is calibrated and measured with"},
    {"name": "techniques", "description": "What can be done"},
    {"name": "jobs", "description": "What is being done, and its proof"},
    {"name": "searches", "description": "The best model within a budget"},
    {"name": "artifacts", "description": "Bytes out"},
    {"name": "service", "description": "The service itself"},
]
_READERS = 2  # more threads that only read would fight for the interpreter
_RESOURCES = (
    *(
        jobs,
        steps,
        advice,
        events,
        reports,
        searches,
        artifacts,
        uploads,
        models,
        datasets,
        techniques,
        workers,
        capabilities,
    ),
    *(health, metrics, docs),
)


def create_app(settings: Settings | None = None, services: Services | None = None) -> FastAPI:
    services = services or bootstrap(settings or Settings())
    configure(services.settings)
    app = FastAPI(
        title="Pare",
        version=version("pare-server"),
        summary="Compression as a service",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
        middleware=[
            Middleware(Observe),
            Middleware(Access, keys=services.keys),
            Middleware(Bodies, settings=services.settings),
        ],
        exception_handlers={
            CompressionError: problems.on_error,
            RequestValidationError: problems.on_invalid,
            HTTPException: problems.on_http,
            Exception: problems.on_crash,
        },
    )
    app.state.services = services
    app.state.flights = Flights()
    app.state.listener = Listener(services.settings.redis_url.get_secret_value())
    _routes(app)
    return app


def _routes(app: FastAPI) -> None:
    for resource in _RESOURCES:
        app.router.routes += resource.router.routes
    app.mount("/static", StaticFiles(directory=docs.STATIC), name="static")
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(documents.document(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sys.setswitchinterval(0.001)  # 5 ms, the default, are a whole request
    gc.collect()
    gc.freeze()  # what is loaded now stays: collecting over it took a third of the time
    app.state.readers = CapacityLimiter(_READERS)
    app.state.upload_lanes = asyncio.Semaphore(uploads.LANES)
    listening = asyncio.create_task(app.state.listener.run())
    yield
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    app.state.services.close()


def __getattr__(name: str) -> FastAPI:
    """`app` is made when it is asked for: importing this module opens nothing."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
