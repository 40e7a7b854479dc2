"""Budget: what a compressed model may cost and lose, and how long may be searched for it."""

from collections.abc import Container, Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import FieldError
from compression.fit import LABELS
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import Measurements, WantedTask

Objective = Literal["latency", "bytes", "download", "macs", "memory", "metric"]
_METRIC_DROP = 0.01
_AGREEMENT = 0.98
_FP32 = 4


class Budget(BaseModel):
    """Limits of the result, all of which hold together, and what is to be as small as possible within them.

    Without `max_metric_drop` and `min_agreement` one of them is set: 0.01 where the data set has labels, else
    0.98.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_metric_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="largest loss of the task metric: 0.01 is one point, or one hundredth of the original's "
        "value for metrics without an upper end. Needs labels",
    )
    min_agreement: float | None = Field(
        default=None, ge=0, le=1, description="smallest share of samples decided as by the original"
    )
    max_bytes: int | None = Field(default=None, gt=0, le=2**53, description="of the artifact's file")
    max_latency_ratio: float | None = Field(
        default=None, gt=0, le=1, description="time of one inference, as a share of the original's"
    )
    max_latency_ms: float | None = Field(
        default=None, gt=0, le=1e9, description="median of one inference on one thread of the worker"
    )
    max_macs: int | None = Field(default=None, gt=0, le=2**53, description="multiply-accumulates of a sample")
    max_memory: int | None = Field(
        default=None, gt=0, le=2**53, description="bytes of the file and of the largest sum of live tensors"
    )
    objective: Objective = Field(
        default="latency",
        description="what is minimised within the limits; metric: what is lost of it",
    )
    seconds: int = Field(
        default=1800,
        ge=1,
        le=7 * 24 * 3600,
        description="after which no trial goes on; the best found is proved after it",
    )
    trials: int = Field(default=40, ge=1, le=1000, description="at most so many")
    task: WantedTask = Field(
        default="auto", description="what the labels ask of the model; `auto`: told from what both look like"
    )

    def settled(self, data: DatasetInspection | None) -> "Budget":
        """With a limit of what may be lost."""
        if self.max_metric_drop is not None or self.min_agreement is not None:
            return self
        limit = {"max_metric_drop": _METRIC_DROP} if labelled(data) else {"min_agreement": _AGREEMENT}
        return self.model_copy(update=limit)

    def contradictions(self, model: ModelInspection) -> list[FieldError]:
        """Why no model could keep to it, or why the original does already."""
        return [FieldError(f"/budget/{field}", why) for field, why in self._contradictions(model)]

    def _contradictions(self, model: ModelInspection) -> Iterator[tuple[str, str]]:
        costs = (
            self.max_bytes,
            self.max_latency_ratio,
            self.max_latency_ms,
            self.max_macs,
            self.max_memory,
        )
        if self.objective == "metric" and not any(limit is not None for limit in costs):
            yield "objective", "the original itself loses nothing: name a limit of bytes, time or memory too"
        graph = max(model.bytes - _FP32 * model.params, 0)
        if self.max_bytes is not None and self.max_bytes <= graph:
            yield "max_bytes", f"the graph alone, without any weight, takes {graph} bytes"
        if None not in (self.max_memory, self.max_bytes) and int(self.max_memory or 0) < int(
            self.max_bytes or 0
        ):
            yield "max_memory", "the file is a part of the memory: it cannot be the smaller limit of the two"


CALIBRATION = 512
"""Samples that are left to calibrate with."""
ENOUGH = CALIBRATION + 1000
"""Calibration samples, of which those beyond 512 are chosen by."""

MOST = 5000
"""Samples to choose by."""
_LEAST_OF_LARGE = 500
_OF_UNKNOWN = 1500
"""Where open sizes leave it open how long a model takes."""
_MACS = 5e11
"""Of a model on all samples that are chosen by, in each trial: 5,000 of a network of 100 M."""


def most_samples(model: ModelInspection) -> int:
    """To choose by: fewer of a model that takes long."""
    affordable = _OF_UNKNOWN if model.macs is None else int(_MACS / max(model.macs, 1))
    return min(max(affordable, _LEAST_OF_LARGE), MOST)


def source(data: DatasetInspection | None) -> str | None:
    """The split that samples to choose by are taken from; never the test split, which only proves."""
    if data is None:
        return None
    return chosen_from(data.splits, {array.split for array in data.arrays if array.name in LABELS})


def chosen_from(splits: Mapping[str, int], labelled: Container[str]) -> str | None:
    """Calibration where there is enough of it, and as many labels as in train: by its other name, validation,
    it is what the original was not trained on. Of what it knows by heart every change loses more than it does
    of anything else.
    """
    as_good = "calibration" in labelled or "train" not in labelled
    if splits.get("calibration", 0) >= ENOUGH and as_good:
        return "calibration"
    return next((name for name in ("train", "calibration") if splits.get(name)), None)


def labelled(data: DatasetInspection | None) -> bool:
    """Whether a metric can be measured, both on the samples to choose by and in the proof."""
    chosen_by = source(data)
    if data is None or chosen_by is None:
        return False
    own = any(array.split == chosen_by and array.name in LABELS for array in data.arrays)
    return own and (data.labelled or not data.splits.get("test"))


class Excess(BaseModel):
    """A limit that was broken."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    limit: str = Field(description="field of the budget", examples=["max_metric_drop"])
    allowed: float
    value: float
    factor: float = Field(description="how far beyond: 1 is once more than what is allowed")


RECOVERED = frozenset({"max_metric_drop", "min_agreement"})
"""Limits of what is lost, and may be regained by training."""
_NORMAL = 1.96
_LEAST = 0.002
"""A drop is compared with at least this: a budget of 0 is no reason to call a loss infinitely bad."""


def excesses(budget: Budget, measured: Measurements, errors: float = 0.0) -> list[Excess]:
    """Every limit that a measured model breaks, worst first; so many standard errors are added to what was
    lost.
    """
    found = []
    for limit, allowed, value in _limits(budget, measured, errors):
        if value is not None and value > allowed:
            scale = max(allowed, _LEAST) if limit in RECOVERED else allowed
            found.append(Excess(limit=limit, allowed=allowed, value=value, factor=(value - allowed) / scale))
    return sorted((_named(excess) for excess in found), key=lambda excess: -excess.factor)


def unmeasured(budget: Budget, measured: Measurements) -> list[str]:
    """Limits of which nothing is known."""
    return [limit for limit, _, value in _limits(budget, measured, 0.0) if value is None]


def _named(excess: Excess) -> Excess:
    """Agreement is compared as disagreement, which is to be small, and told as agreement."""
    if excess.limit != "min_agreement":
        return excess
    return excess.model_copy(update={"allowed": 1 - excess.allowed, "value": 1 - excess.value})


def _limits(
    budget: Budget, measured: Measurements, errors: float
) -> Iterator[tuple[str, float, float | None]]:
    """Name, what is allowed, what it is if it was measured; smaller is better in all."""
    after = measured.compressed
    latency = None if after.latency_ms is None else after.latency_ms.p50
    agreed = None if after.agreement is None else 1 - after.agreement
    values = {
        "max_metric_drop": (budget.max_metric_drop, loss(measured, errors)),
        "min_agreement": (None if budget.min_agreement is None else 1 - budget.min_agreement, agreed),
        "max_bytes": (budget.max_bytes, after.bytes),
        "max_latency_ratio": (budget.max_latency_ratio, cost("latency", measured)),
        "max_latency_ms": (budget.max_latency_ms, latency),
        "max_macs": (budget.max_macs, after.macs),
        "max_memory": (budget.max_memory, _memory(after.bytes, after.peak_activation_bytes)),
    }
    for name, (allowed, value) in values.items():
        if allowed is not None:
            yield name, allowed, value


def loss(measured: Measurements, errors: float = 0.0) -> float | None:
    """Of the task metric: points, or a share where it has no upper end; and so many standard errors more.
    None without labels.
    """
    before, after = measured.original.metric, measured.compressed.metric
    if before is None or after is None:
        return None
    interval = None if measured.drop is None else measured.drop.ci95
    error = 0.0 if interval is None else (interval[1] - interval[0]) / (2 * _NORMAL)
    return before.loss(after) + errors * error


def cost(objective: Objective, measured: Measurements) -> float | None:
    """As a share of the original's; of the metric, what was lost: points, or disagreements without labels."""
    if objective == "metric":
        agreement = measured.compressed.agreement
        lost = loss(measured)
        return lost if lost is not None else None if agreement is None else 1 - agreement
    if objective == "memory":
        own = [
            _memory(one.bytes, one.peak_activation_bytes) for one in (measured.original, measured.compressed)
        ]
        return None if None in own else own[1] / own[0]  # type: ignore[operator]
    name = {"download": "bytes_zstd"}.get(objective, objective)
    ratio = measured.ratios.get(name)
    return None if ratio is None else 1 / ratio.value


def _memory(size: int, activations: int | None) -> int | None:
    return None if activations is None else size + activations
