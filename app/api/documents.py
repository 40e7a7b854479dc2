"""The OpenAPI document: what routes declare, the bodies of `requests`, and the problems every route may
answer.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import problem_examples
from app.api.schemas import Problem

Document = dict[str, Any]
Answers = dict[int | str, Document]
_REF = "#/components/schemas/{model}"
_bodies: set[type[BaseModel]] = set()
_PROBLEMS = {
    "400": "Not a valid HTTP body or JSON",
    "401": "No valid API key",
    "404": "Not there, or another project's",
    "409": "Its state does not allow it",
    "413": "Too large",
    "415": "A format that is not taken",
    "422": "Well-formed and wrong",
    "503": "A part the service needs is away",
    "507": "The store is full",
}


def answers(status: int, example: object, media: str = "application/json") -> Answers:
    return {status: {"description": "Done", "content": {media: {"example": example}}}}


def json_body(model: type[BaseModel], *shown: tuple[str, object]) -> Document:
    """The body of `model` with named examples, the first of which is filled in."""
    _bodies.add(model)
    content = {
        "schema": {"$ref": _REF.format(model=model.__name__)},
        "examples": {name: {"summary": name, "value": value} for name, value in shown},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def raw_body(description: str) -> Document:
    schema = {"type": "string", "format": "binary"}
    content = {"application/octet-stream": {"schema": schema, "example": "(the bytes of the file)"}}
    return {"requestBody": {"required": True, "description": description, "content": content}}


def form_body() -> Document:
    fields = {
        "file": {"type": "string", "format": "binary"},
        "name": {
            "type": "string",
            "maxLength": 200,
            "examples": [""],
            "description": "empty: the file's name",
        },
    }
    schema = {"type": "object", "required": ["file"], "properties": fields}
    example = {"file": "(choose a file)", "name": ""}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema, "example": example}},
        }
    }


def document(app: FastAPI) -> Document:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, bodies = models_json_schema(
        [(model, "validation") for model in sorted(_bodies, key=_name)], ref_template=_REF
    )
    _, problem = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas.update(bodies.get("$defs", {}))
    schemas.update(problem.get("$defs", {}))
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["responses"] = {code: _problem(code, text) for code, text in _PROBLEMS.items()}
    components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "pare_…"}}
    _restore_nulls(app, made["paths"])
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return made


def _restore_nulls(app: FastAPI, paths: Document) -> None:
    """FastAPI drops null members from the examples it is given."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                answers_ = paths[route.path_format][method.lower()]["responses"]
                for status, answer in route.responses.items():
                    for media, content in answer.get("content", {}).items():
                        answers_[str(status)]["content"][media]["example"] = content["example"]


def _complete(path: str, operation: Document) -> None:
    """The problems a route may answer, and the key it asks for."""
    responses = operation["responses"]
    responses.pop("422", None)
    codes = ["503"]
    if path.startswith("/v1/"):
        operation["security"] = [{"ApiKey": []}]
        codes.append("401")
    if "{" in path or "requestBody" in operation:
        codes += ["404", "409"]
    if "requestBody" in operation:
        codes += ["400", "413", "415", "507"]
    if "requestBody" in operation or operation.get("parameters"):
        codes.append("422")
    for code in sorted(codes):
        responses.setdefault(code, {"$ref": f"#/components/responses/{code}"})


def _problem(code: str, text: str) -> Document:
    content = {
        "schema": {"$ref": _REF.format(model="Problem")},
        "example": problem_examples.problem(int(code)),
    }
    return {"description": text, "content": {"application/problem+json": content}}


def _name(model: type[BaseModel]) -> str:
    return model.__name__
