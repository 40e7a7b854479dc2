"""Measurement: the numbers that prove what was gained and lost. Plain JSON; `measure` makes them."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")
Interval = tuple[float, float]
Task = Literal["classification", "tokens", "multilabel", "regression", "similarity", "language_model", "ctc"]
"""What labels ask of a model."""
WantedTask = Literal["auto", Task]
"""`auto`: told from what the labels and the outputs look like."""


class Latency(BaseModel):
    """Milliseconds of one inference at batch 1 on one thread, interleaved with the other model."""

    model_config = _FROZEN
    p50: float
    p90: float
    p99: float
    n: int


class Metric(BaseModel):
    """A task metric on the held-out split with its 95 % interval."""

    model_config = _FROZEN
    name: str = Field(
        description="accuracy, top5_accuracy, macro_f1, token_accuracy, micro_f1, f1, rmse, mae, r2, "
        "spearman, pearson, perplexity, cer or sequence_accuracy"
    )
    value: float
    ci95: Interval
    n: int = Field(description="samples it was measured on")
    higher_is_better: bool = True
    relative: bool = Field(
        default=False,
        description="whether a loss counts as a share of the original's value, not in points",
    )

    def loss(self, after: "Metric") -> float:
        """What was lost since, below 0 if something was gained: points, or a share of this value."""
        lost = self.value - after.value if self.higher_is_better else after.value - self.value
        if not self.relative or lost == 0:
            return lost
        return lost / abs(self.value) if self.value else math.copysign(math.inf, lost)


class Measurement(BaseModel):
    """One model. The last three compare it with the original and are null for the original itself."""

    model_config = _FROZEN
    bytes: int
    bytes_zstd: int = Field(
        description="size as downloaded with zstd -19; -3 where a model has more than 256 MiB"
    )
    params: int
    nonzero_params: int
    macs: int | None = Field(description="multiply-accumulates of one sample")
    peak_activation_bytes: int | None = Field(
        description="largest sum of live tensors of one sample, in graph order"
    )
    latency_ms: Latency | None = None
    metric: Metric | None = Field(
        default=None, description="the one that counts for `max_metric_drop`; null where labels say nothing"
    )
    metrics: tuple[Metric, ...] = Field(default=(), description="further metrics of the same task")
    agreement: float | None = Field(
        default=None,
        description="share of decisions as by the original; where outputs decide nothing, of samples whose "
        "outputs differ by less than a tenth of their size",
    )
    kl: float | None = Field(default=None, description="mean KL divergence of the class probabilities, nats")
    sqnr_db: float | None = Field(default=None, description="signal to quantization noise of the outputs, dB")


class Ratio(BaseModel):
    """Original divided by compressed: 2.0 is twice as small, or twice as fast."""

    model_config = _FROZEN
    value: float
    ci95: Interval | None = None


class Drop(BaseModel):
    """What was lost of the metric: the models were judged on the same samples, and the interval is that of
    the difference, in which what both find easy or hard cancels out.
    """

    model_config = _FROZEN
    metric: str
    value: float = Field(description="points, or a share of the original's value; below 0: gained")
    ci95: Interval | None = Field(description="null where there are too few samples to tell")
    n: int


class Slice(BaseModel):
    """Samples of one class: shares that are decided right."""

    model_config = _FROZEN
    label: int = Field(description="number of the class")
    name: str | None = Field(default=None, description="of the class, where the data set or the model tells")
    n: int
    original: float
    compressed: float
    drop: float
    ci95: Interval = Field(description="of the drop, paired; of this class alone")
    flagged: bool = Field(
        description="loses more than three times as much as all samples together, and that is not by chance"
    )


class LayerError(BaseModel):
    """SQNR at one tensor that both graphs have, in graph order."""

    model_config = _FROZEN
    tensor: str
    sqnr_db: float


class Measurements(BaseModel):
    model_config = _FROZEN
    task: Task | None = Field(
        default=None, description="what the labels were taken for; null where only fidelity was measured"
    )
    original: Measurement
    compressed: Measurement
    ratios: dict[str, Ratio] = Field(
        description="original / compressed: bytes, bytes_zstd, params, macs, latency, …"
    )
    drop: Drop | None = Field(default=None, description="null without a task metric")
    slices: tuple[Slice, ...] = Field(
        default=(), description="of a classification, the classes that lose most, at most 100"
    )
    layers: tuple[LayerError, ...] = ()
    warnings: tuple[str, ...] = ()
