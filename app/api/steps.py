from starlette.responses import Response

from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource

router = resource("/v1/jobs/{job_id}/steps", "jobs")


@router.get(
    "", summary="The steps of a job", response_model=schemas.Steps, responses=answers(200, examples.STEPS)
)
def list_steps(services: Wired, project: Project, job_id: str) -> Response:
    return render.answer({"data": [render.step(step) for step in services.jobs.steps(project, job_id)]})
