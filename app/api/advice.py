from typing import Annotated, Literal

from fastapi import Query
from starlette.responses import Response

from app.api import advice_example, render
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.routing import resource
from compression.advice import Advice, Asked
from compression.search.budget import Objective

router = resource("/v1/models/{model_id}/advice", "models")


@router.get(
    "",
    summary="Which techniques suit it, in what order, and what to expect",
    response_model=Advice,
    responses=answers(200, advice_example.ADVICE),
)
def get_advice(
    services: Wired,
    project: Project,
    model_id: str,
    dataset_id: Annotated[str | None, Query(max_length=64, description="what it would be done with")] = None,
    target: Annotated[Literal["cpu", "gpu"], Query(description="where it is to run")] = "cpu",
    objective: Annotated[Objective, Query(description="what is to be won")] = "latency",
) -> Response:
    """Told from the inspections and from finished jobs of this model; nothing is run. Numbers are `measured`
    where such a job had this very step, and `estimated` from models of the kind elsewhere. `recipe.request`
    is ready for `POST /v1/jobs`, `search.request` for `POST /v1/searches`, which measures instead.
    """
    asked = Asked(model_id, dataset_id, target, objective)
    return render.answer(services.advice.advise(project, asked).model_dump(mode="json"))
