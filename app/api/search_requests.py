"""Bodies of requests about searches."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.api.requests import Body, Format, Id, Labels, Unique
from app.services.orders import SearchOrder
from app.services.searches import Point
from compression.search.budget import Budget, Objective

Formats = Annotated[list[Format], Unique, Field(min_length=1)]


class SearchRequest(Body):
    model_id: Id
    dataset_id: Id | None = Field(
        default=None, description="without one only what needs no data is tried, and judged by fidelity"
    )
    budget: Budget
    seed: int = Field(default=0, ge=0, lt=2**32)
    cache: Literal["use", "refresh", "off"] = "use"
    target: Literal["cpu", "gpu"] = "cpu"
    labels: Labels = Field(default_factory=dict)
    formats: Formats = Field(default=["onnx"], description="of the model that is proved at the end")

    def order(self) -> SearchOrder:
        return SearchOrder(
            self.model_id,
            self.dataset_id,
            self.budget,
            self.seed,
            self.cache,
            self.target,
            self.labels,
            self.formats,
        )


class ResumeRequest(Body):
    seconds: int = Field(ge=1, le=7 * 24 * 3600, description="more than it had")
    trials: int = Field(default=20, ge=1, le=1000, description="more than there are")


class Limits(Body):
    """Members of a budget, in place of the search's own."""

    max_metric_drop: float | None = Field(default=None, ge=0, le=1)
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    max_bytes: int | None = Field(default=None, gt=0, le=2**53)
    max_latency_ratio: float | None = Field(default=None, gt=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0, le=1e9)
    max_macs: int | None = Field(default=None, gt=0, le=2**53)
    max_memory: int | None = Field(default=None, gt=0, le=2**53)
    objective: Objective | None = None


class MaterializeRequest(Body):
    trial: int | None = Field(default=None, ge=0, description="its number")
    budget: Limits | None = Field(default=None, description="other limits than the search's, or more of them")
    labels: Labels = Field(default_factory=dict)
    formats: Formats = Field(default=["onnx"])

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.trial is None) == (self.budget is None):
            raise ValueError("name a trial or a budget")
        return self

    def point(self) -> Point:
        limits = {} if self.budget is None else self.budget.model_dump(exclude_unset=True)
        return Point(self.trial, limits, self.formats, self.labels)
