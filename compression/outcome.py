"""Outcome: did the artifact keep what its recipe promised? Decided on measurements only."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from compression.measurement import Measurements, Metric
from compression.recipe import Recipe
from compression.technique import Promise


class Status(StrEnum):
    MET = "met"
    UNMET = "unmet"
    NOT_REQUESTED = "not_requested"


class Outcome(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    status: Status
    reasons: tuple[str, ...] = ()


def judge(recipe: Recipe, measured: Measurements) -> Outcome:
    """`unmet` names every broken promise; a model that lost its accuracy is never `met`."""
    reasons = [*_broken(recipe, measured), *_lost(recipe, measured)]
    if reasons:
        return Outcome(status=Status.UNMET, reasons=tuple(reasons))
    return Outcome(status=Status.MET if recipe.promises else Status.NOT_REQUESTED)


def _broken(recipe: Recipe, measured: Measurements) -> list[str]:
    reasons = []
    size = measured.ratios["bytes"]
    if Promise.SMALLER in recipe.promises and size.value <= 1:
        reasons.append(f"not smaller: {measured.compressed.bytes} bytes against {measured.original.bytes}")
    if Promise.SMALLER_DOWNLOAD in recipe.promises and measured.ratios["bytes_zstd"].value <= 1:
        before, after = measured.original.bytes_zstd, measured.compressed.bytes_zstd
        reasons.append(f"no smaller download: {after} bytes by zstd against {before}")
    speed = measured.ratios.get("latency")
    interval = speed.ci95 if speed is not None and Promise.FASTER in recipe.promises else None
    if speed is not None and interval is not None and interval[0] <= 1:
        low, high = interval
        reasons.append(f"not proven faster here: {speed.value:.2f}x, 95 % interval {low:.2f}-{high:.2f}")
    return reasons


def _lost(recipe: Recipe, measured: Measurements) -> list[str]:
    before, after = measured.original.metric, measured.compressed.metric
    if before is not None and after is not None:
        if before.loss(after) > recipe.max_metric_drop:
            return [f"{before.name} went from {_shown(before)} to {_shown(after)}"]
    elif measured.compressed.agreement is not None and measured.compressed.agreement < recipe.min_agreement:
        return [f"agrees with the original on only {measured.compressed.agreement:.1%} of the samples"]
    return []


def _shown(metric: Metric) -> str:
    return f"{metric.value:.6g}" if metric.relative else f"{metric.value:.4f}"
