from starlette.responses import Response

import compression.techniques  # noqa: F401  loading the folder fills the registry
from app.api import examples, inspected, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.domain.errors import Conflict
from compression.inspection import ModelInspection
from compression.technique import REGISTRY

router = inspected.routes(
    inspected.Resource(
        "model", schemas.Model, lambda services: services.models, examples.MODEL, examples.MODEL_READY
    )
)


@router.get(
    "/{id}/inspection",
    summary="What is inside, and what can be done with it",
    response_model=schemas.InspectedModel,
    responses=answers(200, examples.INSPECTED_MODEL),
)
def get_model_inspection(services: Wired, project: Project, id: str) -> Response:  # noqa: A002
    model = services.models.get(project, id)
    if model.inspection is None:
        raise Conflict("model_not_ready", f"The model is {model.state}.")
    inspection = ModelInspection.model_validate(model.inspection)
    return render.answer({"inspection": model.inspection, "techniques": _possible(inspection)})


def _possible(inspection: ModelInspection) -> list[render.Body]:
    """Each technique with its defaults; data are looked at when a job is submitted."""
    reasons = {name: REGISTRY[name](technique=name).check(inspection) for name in sorted(REGISTRY)}
    return [
        {
            "technique": name,
            "possible": why is None,
            "reason": why,
            "abilities": inspection.abilities.get(name, {}),
        }
        for name, why in reasons.items()
    ]
