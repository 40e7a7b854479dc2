"""The routes that models and data sets share, written once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.api import examples, render, routing, schemas
from app.api.context import Project, Wired
from app.api.documents import answers, form_body, json_body
from app.api.forms import FileForm, register_form
from app.api.once import Guard
from app.api.paging import Paged
from app.api.requests import ChangeRequest, DatasetRequest, RegisterRequest, parsed
from app.api.waiting import Wait, look_until
from app.bootstrap import Services
from app.domain.records import Inspected
from app.domain.states import InspectionState
from app.services.inspected import InspectedService, Registration


@dataclass(frozen=True)
class Resource:
    word: Literal["model", "dataset"]
    view: type[BaseModel]
    service: Callable[[Services], InspectedService]
    created: examples.Example
    ready: examples.Example
    request: type[RegisterRequest] = RegisterRequest
    requests: tuple[tuple[str, examples.Example], ...] = (("an upload", examples.REGISTER_REQUEST),)


def routes(resource: Resource) -> APIRouter:
    router = routing.resource(f"/v1/{resource.word}s", f"{resource.word}s")
    _creating(router, resource)
    _reading(router, resource)
    _changing(router, resource)
    return router


def _creating(router: APIRouter, resource: Resource) -> None:
    word = resource.word

    @router.post(
        "",
        status_code=201,
        operation_id=f"create_{word}",
        summary=f"Register an upload as a {word}",
        response_model=resource.view,
        responses=answers(201, resource.created),
        openapi_extra=json_body(resource.request, *resource.requests),
    )
    def create(
        services: Wired,
        project: Project,
        once: Guard,
        body: Annotated[RegisterRequest, parsed(resource.request)],
    ) -> Response:
        """A worker inspects it: `processing`, then `ready`, or `rejected` with what to do about it."""
        options = (
            body.options.model_dump(mode="json", exclude_unset=True)
            if isinstance(body, DatasetRequest)
            else {}
        )
        order = Registration(body.upload_id, body.name, body.labels, options)
        register = functools.partial(resource.service(services).register, project, order)
        return once(register, render.inspected, 201, lambda made: f"/v1/{word}s/{made.id}")

    @router.post(
        "/form",
        status_code=201,
        operation_id=f"create_{word}_form",
        summary=f"A {word} from a small file, in one request",
        response_model=resource.view,
        responses=answers(201, resource.created),
        openapi_extra=form_body(),
    )
    def create_form(services: Wired, project: Project, once: Guard, form: FileForm) -> Response:
        """For a file of up to 64 MiB. Larger ones: announce an upload, PUT its bytes, register it."""
        return register_form(form, word, services.uploads, resource.service(services), project, once)


def _reading(router: APIRouter, resource: Resource) -> None:
    word = resource.word

    @router.get(
        "",
        operation_id=f"list_{word}s",
        summary=f"List {word}s",
        response_model=schemas.Page[resource.view],  # type: ignore[name-defined]
        responses=answers(200, examples.listed(resource.ready)),
    )
    def list_(
        services: Wired,
        project: Project,
        cut: Paged,
        state: Annotated[InspectionState | None, Query()] = None,
    ) -> Response:
        return render.listed(resource.service(services).list(project, cut, state), render.inspected)

    @router.get(
        "/{id}",
        operation_id=f"get_{word}",
        summary=f"One {word}",
        response_model=resource.view,
        responses=answers(200, resource.ready),
    )
    async def get(request: Request, services: Wired, project: Project, id: str, wait: Wait = 0) -> Response:  # noqa: A002
        look = functools.partial(resource.service(services).get, project, id)
        return render.tagged(request, render.inspected(await look_until(request, id, look, _inspected, wait)))


def _changing(router: APIRouter, resource: Resource) -> None:
    word = resource.word

    @router.patch(
        "/{id}",
        operation_id=f"update_{word}",
        summary="Change name or labels",
        response_model=resource.view,
        responses=answers(200, resource.ready),
        openapi_extra=json_body(ChangeRequest, ("name and labels", examples.CHANGE_REQUEST)),
    )
    def update(
        services: Wired,
        project: Project,
        id: str,  # noqa: A002
        body: Annotated[ChangeRequest, parsed(ChangeRequest)],
    ) -> Response:
        """What is inside never changes."""
        service = resource.service(services)
        return render.answer(
            render.inspected(service.change(project, id, name=body.name, labels=body.labels))
        )

    @router.delete("/{id}", status_code=204, operation_id=f"delete_{word}", summary=f"Delete a {word}")
    def delete(services: Wired, project: Project, id: str) -> None:  # noqa: A002
        """Not while a job uses it. Its bytes are removed within a day."""
        resource.service(services).delete(project, id)


def _inspected(found: Inspected) -> bool:
    return found.state is not InspectionState.PROCESSING
