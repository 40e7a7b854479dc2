"""What is known of a model and of a data set without opening them again. Plain JSON: the service stores and
serves it.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

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
    abilities: dict[str, dict[str, Any]] = Field(
        default={}, description="what techniques found that they could do with it, by technique"
    )


class ArraySpec(BaseModel):
    """One array of a data set; `split` is train, calibration or test. The first axis counts samples."""

    model_config = _FROZEN
    name: str
    split: str
    dtype: str
    shape: tuple[int, ...]


class DatasetInspection(BaseModel):
    model_config = _FROZEN
    format: str
    arrays: tuple[ArraySpec, ...]
    splits: dict[str, int] = Field(description="samples of each split")
    labelled: bool = Field(description="whether the test split has labels")
    bytes: int
