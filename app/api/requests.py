"""Bodies of requests: declared once, validated strictly in one pass over the bytes, documented from the same
class.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from app.api.context import context
from app.api.problems import refused
from app.services.orders import Conversion, Order
from app.services.uploads import NewUpload
from compression.exports import EXPORTS
from compression.preprocessing import DatasetOptions
from compression.recipe import Recipe

M = TypeVar("M", bound=BaseModel)
Id = Annotated[str, Field(max_length=64)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Labels = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=63)], Annotated[str, Field(max_length=255)]],
    Field(max_length=64, description="your own names and values; lists can be filtered by them"),
]
Filename = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class UploadRequest(Body):
    filename: Filename = Field(description="its ending must agree with the content")
    bytes: int = Field(ge=0, le=2**53, description="exact size")
    purpose: Literal["model", "dataset"]
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="checked; bytes that are here already need not be sent",
    )

    def order(self) -> NewUpload:
        return NewUpload(self.filename, self.bytes, self.purpose, self.sha256)


class RegisterRequest(Body):
    upload_id: Id
    name: Name | None = Field(default=None, description="default: the file's name")
    labels: Labels = Field(default_factory=dict)


class DatasetRequest(RegisterRequest):
    options: DatasetOptions = Field(
        default=DatasetOptions(), description="of tables, archives of images and single arrays"
    )


class ChangeRequest(Body):
    name: Name | None = None
    labels: Labels | None = Field(default=None, description="replaces all labels")


if TYPE_CHECKING:
    Format: TypeAlias = str
    OtherFormat: TypeAlias = str
else:
    Format = Literal[tuple(EXPORTS)]
    OtherFormat = Literal[tuple(name for name in EXPORTS if name != "onnx")]
Seconds = Annotated[int, Field(ge=1, le=7 * 24 * 3600)]
_FORMATS = "each is reloaded, proved and timed in its own runtime; one that cannot hold the model fails alone"


def _unique(formats: list[str]) -> list[str]:
    return list(dict.fromkeys(formats))


Unique = AfterValidator(_unique)


class JobRequest(Body):
    model_id: Id
    dataset_id: Id | None = Field(
        default=None, description="needed by most techniques, and for every proof of accuracy"
    )
    recipe: Recipe
    seed: int = Field(default=0, ge=0, lt=2**32)
    cache: Literal["use", "refresh", "off"] = Field(
        default="use",
        description="`use`: steps done before are not done again; `refresh`: computed anew and kept",
    )
    target: Literal["cpu", "gpu"] = "cpu"
    timeout_seconds: Seconds = 3600
    labels: Labels = Field(default_factory=dict)
    formats: Annotated[list[Format], Unique] = Field(
        default=["onnx"], min_length=1, description=f"of the artifacts, ONNX always among them; {_FORMATS}"
    )

    def order(self) -> Order:
        return Order(
            model_id=self.model_id,
            dataset_id=self.dataset_id,
            recipe=self.recipe,
            seed=self.seed,
            cache=self.cache,
            target=self.target,
            timeout_seconds=self.timeout_seconds,
            labels=self.labels,
            formats=self.formats,
        )


class ConversionRequest(Body):
    formats: Annotated[list[OtherFormat], Unique] = Field(min_length=1, description=_FORMATS)
    timeout_seconds: Seconds = 3600
    labels: Labels = Field(default_factory=dict)

    def order(self, artifact_id: str) -> Conversion:
        return Conversion(artifact_id, self.formats, self.timeout_seconds, self.labels)


def parsed(model: type[M]) -> Any:
    """A dependency: the JSON body as `model`. Errors: Invalid `validation_error`."""

    async def parse(request: Request) -> M:
        body = context(request.scope).body
        try:
            return model.model_validate_json(body or b"null")
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise refused(found, from_json(body) if body else None) from None

    return Depends(parse)
