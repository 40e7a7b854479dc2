from starlette.responses import Response

from app.api import examples, inspected, render, schemas
from app.api.context import Project, Wired
from app.api.documents import answers
from app.api.requests import DatasetRequest
from app.domain.errors import Conflict, NotFound
from compression.dataset_preview import DatasetPreview
from compression.inspection import DatasetInspection

router = inspected.routes(
    inspected.Resource(
        "dataset",
        schemas.Dataset,
        lambda services: services.datasets,
        examples.DATASET,
        examples.DATASET_READY,
        DatasetRequest,
        examples.DATASET_REQUESTS,
    )
)


@router.get(
    "/{id}/inspection",
    summary="What is inside",
    response_model=DatasetInspection,
    responses=answers(200, examples.DATASET_INSPECTION),
)
def get_dataset_inspection(services: Wired, project: Project, id: str) -> Response:  # noqa: A002
    dataset = services.datasets.get(project, id)
    if dataset.inspection is None:
        raise Conflict("dataset_not_ready", f"The data set is {dataset.state}.")
    return render.answer(dataset.inspection)


@router.get(
    "/{id}/preview",
    summary="A look at the samples",
    response_model=DatasetPreview,
    responses=answers(200, examples.DATASET_PREVIEW),
)
def get_dataset_preview(services: Wired, project: Project, id: str) -> Response:  # noqa: A002
    """Of each split: first rows, thumbnails of images, ranges of values and how often each class occurs."""
    found = services.datasets.preview(project, id)
    if found is None:
        raise NotFound("preview of data set", id)
    return render.answer(found)
