"""The document holds for what is really answered, and shows an example of everything."""

from collections.abc import Iterator
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


def contents(document: Json) -> Iterator[tuple[str, str, Json]]:
    """What is sent and answered with success, and every problem."""
    for name, operation in operations(document):
        answers = [operation["responses"][s] for s in operation["responses"] if s[0] == "2" and s != "204"]
        for part in [operation.get("requestBody", {}), *answers]:
            yield from ((name, media, content) for media, content in part.get("content", {}).items())
    for name, answer in document["components"]["responses"].items():
        yield from ((name, media, content) for media, content in answer["content"].items())


def test_every_body_and_answer_has_an_example_that_is_valid(document: Json) -> None:
    for name, media, content in contents(document):
        shown = [example["value"] for example in content.get("examples", {}).values()]
        assert shown or "example" in content, (name, media)
        for example in shown or [content["example"]]:
            if media.endswith("json"):
                check(document, content["schema"], example)


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
