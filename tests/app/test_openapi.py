"""The document holds for what is really answered, and shows an example of everything."""

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from app.api import schemas
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import Api, Json

pytestmark = pytest.mark.parametrize("settings", ["embedded"], indirect=True)


@pytest.fixture
def document(settings: Settings) -> Json:
    app = create_app(settings)
    app.state.services.close()
    return dict(app.openapi())


def operations(document: Json) -> list[tuple[str, Json]]:
    return [(f"{method} {path}", op) for path, ops in document["paths"].items() for method, op in ops.items()]


def check(document: Json, schema: Json, example: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(example)


def test_every_operation_is_named_tagged_and_told(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for name, operation in operations(document):
        assert operation["tags"], name
        assert operation["summary"], name


def test_every_body_and_answer_has_an_example_that_is_valid(document: Json) -> None:
    for name, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            examples = [e["value"] for e in content.get("examples", {}).values()] or [content["example"]]
            if media == "application/json":
                for example in examples:
                    check(document, content["schema"], example)
        for status, answer in operation["responses"].items():
            if status.startswith("2") and status != "204":
                for media, content in answer["content"].items():
                    assert "example" in content, (name, media)
                    if media == "application/json":
                        check(document, content["schema"], content["example"])
    for answer in document["components"]["responses"].values():
        (content,) = answer["content"].values()
        check(document, content["schema"], content["example"])


def test_steps_are_a_union_told_apart_by_technique(document: Json) -> None:
    (items,) = [document["components"]["schemas"]["Recipe"]["properties"]["steps"]["items"]]
    assert items["discriminator"]["propertyName"] == "technique"
    assert {ref["$ref"] for ref in items["oneOf"]} == set(items["discriminator"]["mapping"].values())


@pytest.mark.parametrize(
    ("path", "view"),
    [
        ("/v1/techniques", schemas.Page[schemas.Technique]),
        ("/v1/techniques/half_precision", schemas.Technique),
        ("/v1/capabilities", schemas.Capabilities),
        ("/v1/workers", schemas.Workers),
        ("/v1/jobs", schemas.Page[schemas.Job]),
        ("/v1/jobs/{job}", schemas.Job),
        ("/v1/jobs/{job}/steps", schemas.Steps),
        ("/v1/jobs/{job}/events", schemas.Events),
        ("/v1/models/{model}", schemas.Model),
        ("/v1/models/{model}/inspection", schemas.InspectedModel),
        ("/v1/datasets/{dataset}", schemas.Dataset),
    ],
)
def test_answers_are_as_documented(api: Api, path: str, view: type[BaseModel]) -> None:
    dataset = api.dataset()
    job = api.job(dataset_id=dataset["id"])
    answer = api.client.get(path.format(job=job["id"], model=job["model_id"], dataset=dataset["id"]))
    view.model_validate_json(answer.raise_for_status().content)
