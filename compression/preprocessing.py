"""What the owner says of a data set: which columns, which splits, and what becomes of each image."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compression.errors import CompressionError, FieldError

_STRICT = ConfigDict(frozen=True, extra="forbid")
Side = Annotated[int, Field(ge=1, le=4096)]
Size = tuple[Side, Side]
Value = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Column = Annotated[str, Field(min_length=1, max_length=200)]


class Fractions(BaseModel):
    model_config = _STRICT
    train: float = Field(default=0.6, ge=0, le=1)
    calibration: float = Field(default=0.2, ge=0, le=1)
    test: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if abs(self.train + self.calibration + self.test - 1) > 1e-6:
            raise ValueError("train, calibration and test must sum to 1")
        return self


class ImageOptions(BaseModel):
    """In this order: resize, crop, colour, x * scale, (x - mean) / std, layout."""

    model_config = _STRICT
    resize: Size | None = Field(default=None, description="height and width, bilinear")
    crop: Size | None = Field(default=None, description="height and width cut from the middle")
    colour: Literal["RGB", "BGR", "GRAY"] = "RGB"
    dtype: Literal["float32", "uint8"] = Field(
        default="float32", description="uint8 keeps the pixels 0-255: no scale, mean or std"
    )
    scale: float = Field(default=1 / 255, gt=0, le=1e6, description="factor of each pixel 0-255")
    mean: tuple[Value, ...] = Field(default=(), max_length=3, description="one for all channels, or each")
    std: tuple[Deviation, ...] = Field(default=(), max_length=3, description="one for all channels, or each")
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def channels(self) -> int:
        return 1 if self.colour == "GRAY" else 3

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in {0, 1, self.channels}:
                raise ValueError(f"{name} must have one value, or {self.channels} for {self.colour}")
        if self.dtype == "uint8" and (self.mean or self.std):
            raise ValueError("mean and std are for float32")
        return self


class DatasetOptions(BaseModel):
    model_config = _STRICT
    labels: Column | None = Field(default=None, description="column of labels; `label` where there is one")
    inputs: dict[Column, Column] = Field(
        default={}, max_length=256, description="input name -> column; every other column where empty"
    )
    splits: Fractions | Column = Field(
        default=Fractions(), description="fractions, or the column that says train, calibration or test"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the split by fractions")
    image: ImageOptions = ImageOptions()
    max_broken: int | None = Field(
        default=None, ge=0, le=1_000_000, description="images skipped at most; 1 % but at least 1 where null"
    )

    def most_broken(self, images: int) -> int:
        return max(1, images // 100) if self.max_broken is None else self.max_broken


def parse(options: Mapping[str, Any]) -> DatasetOptions:
    """Errors: CompressionError `invalid_options` with a pointer for each field."""
    try:
        return DatasetOptions.model_validate(options)
    except ValidationError as error:
        errors = [
            FieldError("/" + "/".join(str(part) for part in each["loc"]), each["msg"])
            for each in error.errors(include_url=False)
        ]
        raise CompressionError(
            "invalid_options", "the options of the data set are not valid", errors=errors
        ) from None
