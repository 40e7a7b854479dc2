from collections.abc import Sequence
from typing import Any

from fastapi import Request
from starlette.responses import Response

import compression.techniques  # noqa: F401  loading the folder fills the registry
from app.api import render, schemas, service_examples
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource
from app.domain.records import Worker
from compression import catalogue
from compression.technique import REGISTRY as TECHNIQUES

router = resource("/v1/capabilities", "service")


@router.get(
    "",
    summary="What this service can do",
    response_model=schemas.Capabilities,
    responses=answers(200, service_examples.CAPABILITIES),
)
def get_capabilities(request: Request, services: Wired, project: Project) -> Response:
    settings = services.settings
    alive = [worker for worker in services.workers.list(project) if worker.alive]
    limits = {
        name: getattr(settings, name)
        for name in (
            "max_model_bytes",
            "max_dataset_bytes",
            "max_form_bytes",
            "job_timeout_seconds",
            "job_memory_bytes",
        )
    }
    return render.answer(
        {
            "version": request.app.version,
            "techniques": sorted(TECHNIQUES),
            "model_formats": _formats("model", alive),
            "dataset_formats": _formats("dataset", alive),
            "artifact_formats": _formats("artifact", alive),
            "targets": sorted({queue for worker in alive for queue in worker.queues} - catalogue.extras()),
            "limits": limits,
        }
    )


def _formats(way: catalogue.Way, alive: Sequence[Worker]) -> list[dict[str, Any]]:
    """With what to install where no living worker has all that one needs."""
    found = []
    for entry in catalogue.entries():
        if entry.way == way:
            available = any(entry.available(worker.versions) for worker in alive)
            found.append({
                "title": entry.title,
                "names": entry.names,
                "files": entry.suffixes,
                "available": available,
                "install": None if available else entry.install,
            })  # fmt: skip
    return found
