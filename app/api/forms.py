"""A small file in a form, for Swagger UI and the like: announced, received and registered in one request."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import Depends, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from app.adapters.blobs import CHUNK
from app.api import render
from app.api.once import Guard
from app.domain.errors import Invalid
from app.domain.records import Inspected
from app.services.inspected import InspectedService, Registration
from app.services.uploads import NewUpload, UploadService
from compression.errors import FieldError


@dataclass(frozen=True)
class Form:
    file: BinaryIO
    filename: str
    bytes: int
    name: str | None


async def _read(request: Request) -> Any:
    """Errors: Invalid `validation_error`; `too_large`."""
    async with request.form(max_files=1, max_fields=1, max_part_size=4096) as fields:
        file, name = fields.get("file"), fields.get("name")
        if not isinstance(file, UploadFile) or not file.filename:
            raise Invalid(
                "validation_error", "The form has no file.", [FieldError("/file", "a file is required")]
            )
        yield Form(
            file.file, file.filename.replace("\\", "/").rpartition("/")[2], file.size or 0, _name(name)
        )


FileForm = Annotated[Form, Depends(_read)]


def register_form(
    form: Form,
    purpose: Literal["model", "dataset"],
    uploads: UploadService,
    service: InspectedService,
    project: str,
    once: Guard,
) -> Response:
    digest = _sha256(form.file)
    named = once.about(f"{form.filename}\n{form.name}\n{digest}".encode())

    def act(record: Callable[..., None]) -> Inspected:
        upload_id = _receive(
            uploads, project, NewUpload(form.filename, form.bytes, purpose, digest), form.file
        )
        return service.register(project, Registration(upload_id, form.name), record)

    return named(act, render.inspected, 201, lambda made: f"/v1/{purpose}s/{made.id}")


def _receive(uploads: UploadService, project: str, order: NewUpload, file: BinaryIO) -> str:
    upload = uploads.create(project, order)
    if upload.state == "completed":
        return upload.id
    receiving = uploads.receive(project, upload.id, order.bytes)
    try:
        while chunk := file.read(CHUNK):
            receiving.write([chunk])
        return receiving.finish().id
    except BaseException:
        receiving.abort()
        raise


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _name(given: object) -> str | None:
    """An empty field of a form is one that was not filled in."""
    if not isinstance(given, str) or not given:
        return None
    if len(given) > 200:
        raise Invalid(
            "validation_error", "The name is too long.", [FieldError("/name", "at most 200 characters")]
        )
    return given
