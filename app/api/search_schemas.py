"""The answers about searches."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.api.schemas import Failure, Job, Labels, View
from app.domain.states import JobState, SearchState
from compression.measurement import Measurements
from compression.search.budget import Budget, Excess


class Search(View):
    id: str
    state: SearchState
    progress: float
    model_id: str
    dataset_id: str | None
    budget: Budget = Field(description="with every default written out")
    seed: int
    cache: Literal["use", "refresh", "off"]
    target: Literal["cpu", "gpu"]
    labels: Labels
    formats: list[str]
    judged_by: Literal["train", "calibration"] | None = Field(
        description="the split that trials are measured on samples of: calibration where it has 1,512 or "
        "more (those beyond 512 are judged by), else a tenth of train; never the test split"
    )
    trials: dict[str, int] = Field(description="how many there are in each state of a job")
    cache_hits: int = Field(description="steps of trials that were not computed again")
    elapsed_seconds: float = Field(description="of searching; the proof is no part of it")
    chosen: int | None = Field(description="number of the trial that is proved")
    proof_job_id: str | None
    proof: Job | None = Field(description="measured on the test split, which no trial has seen")
    outcome: Literal["met", "unmet"] | None
    outcome_reasons: list[str]
    notes: list[str] = Field(description="what would make another search better, with a way to it")
    error: Failure | None
    created_at: datetime
    finished_at: datetime | None


class Trial(View):
    number: int
    job_id: str
    state: JobState
    recipe: dict[str, Any]
    share: float = Field(description="of the training its steps propose, that this trial was given")
    seconds: float | None
    cache_hits: int
    measurements: Measurements | None = Field(
        description="on the samples that the search chooses by, without layers and slices; download sizes by "
        "zstd -3 (the proof has -19)"
    )
    point: dict[str, float] = Field(
        description="what is lost of the metric, and costs as shares of the original's: smaller is better"
    )
    broken: list[Excess] = Field(description="limits of the budget that it breaks, worst first")
    error: Failure | None
    started_at: datetime | None
    finished_at: datetime | None


class Trials(View):
    data: list[Trial]
    has_more: bool
    next_cursor: str | None = Field(description="give it as `after`")


class Frontier(View):
    axes: list[str]
    data: list[Trial] = Field(description="along the first axis, smallest first")
