"""What the owner says of a data set: which columns, which splits, what becomes of each image and text."""

from collections.abc import Mapping, Sequence
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
    resize: Size | Side | None = Field(
        default=None, description="height and width; one number: the shorter side, the other in proportion"
    )
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = Field(
        default="bilinear", description="how pixels are made when an image is resized"
    )
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


class TextOptions(BaseModel):
    """What the tokenizer makes are columns like others: `input_ids`, `attention_mask`, `token_type_ids`."""

    model_config = _STRICT
    column: Column | None = Field(
        default=None,
        description="null: `text`, `sentence`, `sentence1` or `text1`, else the only column of text",
    )
    pair: Column | None = Field(
        default=None,
        description="second text of each row; null: `text_pair`, `sentence2` or `text2` beside the first",
    )
    pairs: Literal["joined", "rows"] = Field(
        default="joined",
        description="`joined`: both texts make one sequence (cross-encoders). `rows`: each makes a row of "
        "its own, one after the other and with the same label (models that embed one text: similarity)",
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        le=8192,
        description="tokens of a row: longer ones are cut, shorter ones padded; null: as the tokenizer says, "
        "or 128",
    )


class DatasetOptions(BaseModel):
    model_config = _STRICT
    labels: Column | None = Field(default=None, description="column of labels; `label` where there is one")
    classes: tuple[Column, ...] = Field(
        default=(),
        max_length=20_000,
        description="names of the classes in the model's order; in that of the alphabet where empty",
    )
    transcriptions: bool = Field(
        default=False,
        description="labels of text are transcriptions: sequences of `classes`, their symbols, numbered from "
        "1 as 0 is the blank (CTC); all characters that occur, by code point, where `classes` is empty",
    )
    inputs: dict[Column, Column | Annotated[tuple[Column, ...], Field(min_length=1, max_length=4096)]] = (
        Field(
            default={},
            max_length=256,
            description="input name -> column, or a list of columns of numbers: the features of one float32 "
            "row, in that order. Where empty: every column but the labels, and if each of them holds single "
            "numbers, one row of them all",
        )
    )
    splits: Fractions | Column = Field(
        default=Fractions(), description="fractions, or the column that says train, calibration or test"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the split by fractions")
    image: ImageOptions = Field(
        default=ImageOptions(),
        description="where it is left out, preprocessor_config.json of an archive is followed",
    )
    text: TextOptions = Field(
        default=TextOptions(), description="of tables in an archive beside a tokenizer.json"
    )
    max_broken: int | None = Field(
        default=None, ge=0, le=1_000_000, description="images skipped at most; 1 % but at least 1 where null"
    )

    def most_broken(self, images: int) -> int:
        return max(1, images // 100) if self.max_broken is None else self.max_broken


NO_TRANSCRIPTIONS = "there are no labels that could be transcriptions: name their column"


def parse(options: Mapping[str, Any]) -> DatasetOptions:
    """Errors: CompressionError `invalid_options` with a pointer for each field."""
    try:
        return DatasetOptions.model_validate(options)
    except ValidationError as error:
        raise invalid_options(
            [
                FieldError("/" + "/".join(str(part) for part in each["loc"]), each["msg"])
                for each in error.errors(include_url=False)
            ]
        ) from None


def invalid_options(errors: Sequence[FieldError]) -> CompressionError:
    """The first is told in the sentence too, as not every reader shows them all."""
    first = f"{errors[0].pointer}: {errors[0].detail}"
    return CompressionError(
        "invalid_options", f"the options of the data set are not valid: {first}"[:400], errors=errors
    )
