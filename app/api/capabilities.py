from fastapi import Request
from starlette.responses import Response

import compression.techniques  # noqa: F401  loading the folder fills the registry
from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource
from compression.formats.format import REGISTRY as FORMATS
from compression.technique import REGISTRY as TECHNIQUES

router = resource("/v1/capabilities", "service")


@router.get(
    "",
    summary="What this service can do",
    response_model=schemas.Capabilities,
    responses=answers(200, examples.CAPABILITIES),
)
def get_capabilities(request: Request, services: Wired, project: Project) -> Response:
    settings = services.settings
    served = {queue for worker in services.workers.list(project) if worker.alive for queue in worker.queues}
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
            "model_formats": _formats("model"),
            "dataset_formats": _formats("dataset"),
            "targets": sorted(served),
            "limits": limits,
        }
    )


def _formats(purpose: str) -> list[str]:
    return sorted(known.name for known in FORMATS if known.purpose == purpose and known.load)
