"""What is known of a model and of a data set without opening them again. Plain JSON: the service stores and
serves it.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.preprocessing import DatasetOptions

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Trait(StrEnum):
    """A property of a model that decides which techniques may follow."""

    QUANTIZED = "quantized"
    HALF_PRECISION = "half_precision"


class TensorSpec(BaseModel):
    """A graph input or output. `dtype` is numpy's name; a dynamic axis is its name, an anonymous one null."""

    model_config = _FROZEN
    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Conversion(BaseModel):
    """How well the ONNX file agrees with the model that was uploaded, run by its own framework."""

    model_config = _FROZEN
    framework: str = Field(examples=["keras"])
    version: str = Field(description="of the framework that read the upload")
    difference: float = Field(
        description="largest difference of an output, relative to its largest value, on random inputs"
    )
    samples: int = Field(description="how many random inputs were compared")


class ModelInspection(BaseModel):
    model_config = _FROZEN
    format: str = Field(description="format of the upload, told by content", examples=["onnx"])
    opset: int
    ir_version: int
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int] = Field(description="how often each operator occurs, subgraphs included")
    nodes: int
    params: int = Field(description="elements of all weights (initializers of floating or quantized type)")
    macs: int | None = Field(description="multiply-accumulates of one sample; null where shapes are unknown")
    bytes: int
    traits: frozenset[Trait]
    lookups: dict[str, int] = Field(
        default={}, description="inputs that a table is looked up with: integers must lie below its rows"
    )
    abilities: dict[str, dict[str, Any]] = Field(
        default={}, description="what techniques found that they could do with it, by technique"
    )
    classes: tuple[str, ...] = Field(
        default=(), description="name of each class, in order, where the upload tells"
    )
    conversion: Conversion | None = Field(default=None, description="null where the upload was ONNX already")


class ArraySpec(BaseModel):
    """One array of a data set; `split` is train, calibration or test. The first axis counts samples."""

    model_config = _FROZEN
    name: str
    split: str
    dtype: str
    shape: tuple[int, ...]


class SkippedFile(BaseModel):
    model_config = _FROZEN
    name: str
    reason: str


class Skipped(BaseModel):
    """Images that could not be read."""

    model_config = _FROZEN
    count: int = 0
    first: tuple[SkippedFile, ...] = Field(default=(), description="the first of them, by name, with why")


class Finding(BaseModel):
    """What the data doctor found in a normalised data set."""

    model_config = _FROZEN
    code: str = Field(examples=["few_calibration_rows"])
    severity: Literal["info", "warning", "error"]
    detail: str
    way_out: str


class DatasetInspection(BaseModel):
    model_config = _FROZEN
    format: str
    arrays: tuple[ArraySpec, ...]
    splits: dict[str, int] = Field(description="samples of each split")
    labelled: bool = Field(description="whether the test split has labels")
    bytes: int
    classes: tuple[str, ...] = Field(default=(), description="name of each label, in order")
    class_counts: dict[str, tuple[int, ...]] = Field(
        default={}, description="samples of each class, by split; in the order of `classes`"
    )
    largest: dict[str, int] = Field(
        default={}, description="of inputs of 32 or 64 bit integers, token ids say, the largest of all splits"
    )
    skipped: Skipped = Skipped()
    preprocessing: DatasetOptions | None = Field(default=None, description="what was done to the upload")
    findings: tuple[Finding, ...] = ()
