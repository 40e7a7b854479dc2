from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from typing import Any

from starlette.responses import Response

import compression.techniques  # noqa: F401  loading the folder fills the registry
from app.api import examples, render, schemas
from app.api.documents import answers
from app.api.routing import resource
from app.domain.errors import NotFound
from compression.technique import REGISTRY, Technique

router = resource("/v1/techniques", "techniques")


@router.get(
    "",
    summary="All techniques",
    response_model=schemas.Page[schemas.Technique],
    responses=answers(200, examples.listed(examples.TECHNIQUE)),
)
def list_techniques() -> Response:
    """Each with the JSON Schema of its step. Read `guidance`: it says when to use it and what it really
    gains.
    """
    data = [_view(name) for name in sorted(REGISTRY)]
    return render.answer({"data": data, "has_more": False, "next_cursor": None})


@router.get(
    "/{name}",
    summary="One technique",
    response_model=schemas.Technique,
    responses=answers(200, examples.TECHNIQUE),
)
def get_technique(name: str) -> Response:
    if name not in REGISTRY:
        raise NotFound("technique", name)
    return render.answer(_view(name))


@cache
def _view(name: str) -> Mapping[str, Any]:
    technique: type[Technique] = REGISTRY[name]
    text = cleandoc(technique.__doc__ or "")
    return {
        "name": name,
        "version": technique.version,
        "summary": text.partition("\n")[0],
        "description": text,
        "guidance": technique.guidance,
        "needs": sorted(technique.needs),
        "promises": sorted(technique.promises),
        "refuses": {trait.value: why for trait, why in technique.refuses.items()},
        "parameters": technique.model_json_schema(),
    }
