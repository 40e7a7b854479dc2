from starlette.responses import Response

from app.api import render, schemas, service_examples
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource

router = resource("/v1/workers", "service")


@router.get(
    "",
    summary="The workers and their hardware",
    response_model=schemas.Workers,
    responses=answers(200, service_examples.WORKERS),
)
def list_workers(services: Wired, project: Project) -> Response:
    return render.answer({"data": [render.worker(worker) for worker in services.workers.list(project)]})
