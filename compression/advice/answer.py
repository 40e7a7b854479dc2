"""What is answered."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.architecture import Architecture
from compression.measurement import Interval
from compression.search.budget import Objective
from compression.technique import Confidence

_FROZEN = ConfigDict(frozen=True, extra="forbid")
Basis = Literal["measured", "estimated"]
StageName = Literal["graph", "structure", "sparsity", "precision"]
StepJson = dict[str, Any]


class Figure(BaseModel):
    model_config = _FROZEN
    value: float
    basis: Basis = Field(
        description="measured: by a finished job of this very model; estimated: from what was measured on "
        "models of its kind"
    )
    ci95: Interval | None = Field(default=None, description="of what was measured, where it is known")
    job_id: str | None = Field(default=None, description="that measured it")


class Expectation(BaseModel):
    """Factors are original / compressed: 2.0 is half as large, or half the time."""

    model_config = _FROZEN
    file: Figure = Field(description="of the file on the disk")
    download: Figure = Field(description="of the file as downloaded with zstd")
    latency: Figure = Field(description="of one inference on one thread")
    drop: Figure | None = Field(
        description="of the task metric: 0.01 is one point, or one hundredth of the original's value; null "
        "where a job measured none"
    )


class Strength(BaseModel):
    """A technique with certain parameters."""

    model_config = _FROZEN
    step: StepJson = Field(description="as in a recipe; parameters that are left out have their defaults")
    expected: Expectation
    confidence: Confidence


class Recommendation(BaseModel):
    model_config = _FROZEN
    technique: str
    stage: StageName = Field(description="where in a recipe it goes: in this order")
    why: str
    when: str = Field(description="the technique's own guidance")
    strengths: tuple[Strength, ...] = Field(description="the first is recommended")
    chosen: bool = Field(description="whether the recipe has it")


class LeftOut(BaseModel):
    model_config = _FROZEN
    technique: str
    reason: str
    way_out: str | None = None


class Plan(BaseModel):
    """A pipeline that is ready to run."""

    model_config = _FROZEN
    request: dict[str, Any] = Field(description="the body of POST /v1/jobs")
    expected: Expectation
    confidence: Confidence
    why: str


class SearchPlan(BaseModel):
    """A budget, where measuring is better than expecting."""

    model_config = _FROZEN
    request: dict[str, Any] = Field(description="the body of POST /v1/searches")
    why: str


class Advice(BaseModel):
    model_config = _FROZEN
    architecture: Architecture
    objective: Objective
    summary: str = Field(description="the answer in a few sentences")
    notes: tuple[str, ...] = Field(description="what to know of this model, data and target")
    recommendations: tuple[Recommendation, ...] = Field(description="what helps most first")
    left_out: tuple[LeftOut, ...]
    recipe: Plan | None = Field(description="the best that is expected; null where nothing helps")
    bolder: Plan | None = Field(
        description="gains a good deal more, and may lose more than a point: to be measured before it is used"
    )
    search: SearchPlan | None = Field(description="null where there is nothing to search among")
