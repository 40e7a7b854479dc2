from starlette.responses import Response

from app.api import examples, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource
from app.domain.errors import Conflict
from compression.errors import Suggestion

router = resource("/v1/jobs/{job_id}/report", "jobs")


@router.get(
    "",
    summary="The finished job as one document",
    response_model=schemas.Report,
    responses=answers(200, examples.REPORT),
)
def get_report(services: Wired, project: Project, job_id: str) -> Response:
    """What was gained and lost, measured, with the exact versions, seed and hardware, and every step."""
    job = services.jobs.get(project, job_id)
    if not job.state.over:
        way = Suggestion(f"Wait for it: GET /v1/jobs/{job_id}?wait=30")
        raise Conflict("job_not_over", f"The job is {job.state}.", way)
    return render.answer(render.report(job, services.jobs.steps(project, job_id)))
