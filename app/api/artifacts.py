import base64
import functools
from typing import Annotated, cast
from urllib.parse import quote

from fastapi import Request
from starlette.responses import (
    FileResponse,
    MalformedRangeHeader,
    RangeNotSatisfiable,
    RedirectResponse,
    Response,
)

from app.adapters.blobs import CHUNK
from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers, json_body
from app.api.once import Guard
from app.api.problems import Refusal
from app.api.requests import ConversionRequest, parsed
from app.api.routing import resource
from app.bootstrap import Services
from app.domain.errors import BlobMissing, NotFound
from compression.errors import CompressionError, ErrorKind

router = resource("/v1/artifacts", "artifacts")


class _File(FileResponse):
    chunk_size = CHUNK

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """A Range that cannot be read is ignored (RFC 9110, 14.2); one that cannot be satisfied is a problem
        like others.
        """
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable:
            detail = f"The file has {file_size} bytes."
            raise Refusal(
                "range_not_satisfiable", detail, {"Content-Range": f"bytes */{file_size}"}
            ) from None


@router.get(
    "/{artifact_id}",
    summary="One artifact",
    response_model=schemas.Artifact,
    responses=answers(200, examples.ARTIFACT),
)
def get_artifact(services: Wired, project: Project, artifact_id: str) -> Response:
    return render.answer(render.artifact(services.artifacts.get(project, artifact_id)))


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get(
    "/{artifact_id}/content",
    summary="The file",
    response_class=Response,
    responses=answers(200, "(the bytes of the file)", "application/octet-stream"),
)
def get_artifact_content(request: Request, services: Wired, project: Project, artifact_id: str) -> Response:
    """With Range, If-Range, ETag and Repr-Digest; on S3 a redirect to an address that is good for 15 minutes.
    The bytes are
    those of `sha256`, or none are sent."""
    artifact = services.artifacts.get(project, artifact_id)
    return _sent(request, services, artifact.sha256, artifact.filename)


@router.head("/{artifact_id}/bundle", include_in_schema=False)
@router.get(
    "/{artifact_id}/bundle",
    summary="The file with all that is needed to run it",
    response_class=Response,
    responses=answers(200, "(the bytes of a zip)", "application/octet-stream"),
)
def get_artifact_bundle(request: Request, services: Wired, project: Project, artifact_id: str) -> Response:
    """A zip: the file, `pare.json` (inputs, preprocessing, labels, measurements, provenance), a model card,
    and a `run.py` that
    needs the bare runtime alone. Sent as the file is."""
    artifact = services.artifacts.get(project, artifact_id)
    if artifact.bundle_sha256 is None:
        raise NotFound("bundle of artifact", artifact_id)
    return _sent(request, services, artifact.bundle_sha256, artifact.bundle_filename)


@router.post(
    "/{artifact_id}/conversions",
    status_code=202,
    summary="The artifact in other formats",
    response_model=schemas.Job,
    responses=answers(202, examples.CONVERSION),
    openapi_extra=json_body(ConversionRequest, ("ONNX Runtime's own format", examples.CONVERSION_REQUEST)),
)
def convert_artifact(
    services: Wired,
    project: Project,
    once: Guard,
    artifact_id: str,
    body: Annotated[ConversionRequest, parsed(ConversionRequest)],
) -> Response:
    """A job without steps, from an ONNX artifact: follow it as any other. Each format is reloaded in its own
    runtime, compared with the
    artifact and timed beside it; its `failed_formats` say which could not be made."""
    convert = functools.partial(services.jobs.convert, project, body.order(artifact_id))
    return once(convert, render.job, 202, lambda job: f"/v1/jobs/{job.id}")


def _sent(request: Request, services: Services, sha256: str, filename: str) -> Response:
    if not _whole(services, sha256):
        raise CompressionError(
            "artifact_corrupt", "The stored bytes are not those that were made.", ErrorKind.INTERNAL
        )
    headers = _headers(sha256, filename)
    given = request.headers.get("if-none-match")
    if given is not None and render.matches(given, headers["ETag"]):
        return Response(None, 304, headers)
    path = services.blobs.local_path(sha256)
    if path is not None:
        return _File(path, 200, headers, "application/octet-stream", stat_result=path.stat())
    address = services.blobs.url(sha256, filename)
    return RedirectResponse(cast("str", address), 307, headers)


def _whole(services: Services, sha256: str) -> bool:
    try:
        return services.blobs.verify(sha256)
    except BlobMissing:
        return False


def _headers(sha256: str, filename: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {
        "ETag": f'"{sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(filename)}",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
