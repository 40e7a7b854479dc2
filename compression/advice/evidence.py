"""Evidence: what finished jobs of this model measured after each of their steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from compression.advice.answer import Expectation, Figure
from compression.measurement import Interval, Measurements
from compression.technique import REGISTRY, Technique


@dataclass(frozen=True)
class Run:
    """A finished job: its steps, each with what the model was measured to be after it."""

    job_id: str
    same_data: bool
    """Whether it was measured on the data set that is asked about."""
    steps: Sequence[tuple[Mapping[str, Any], Measurements]]


@dataclass(frozen=True)
class Observed:
    """Steps, one after the other, and what they were worth together."""

    steps: tuple[Technique, ...]
    expected: Expectation


def pipelines(runs: Sequence[Run]) -> Iterator[Observed]:
    """Of each job that was measured on the same data, all of its steps so far."""
    for run in runs:
        steps = _steps(run)
        if steps is not None and run.same_data:
            for end, (_, measured) in enumerate(run.steps, 1):
                yield Observed(steps[:end], _told(run, measured, None))


def single(runs: Sequence[Run]) -> Iterator[Observed]:
    """Each step alone: what came after it beside what came before."""
    for run in runs:
        before: Measurements | None = None
        for step, (_, measured) in zip(_steps(run) or (), run.steps, strict=False):
            yield Observed((step,), _told(run, measured, before))
            before = measured


def _steps(run: Run) -> tuple[Technique, ...] | None:
    """None where a technique, or its parameters, are no longer what they were."""
    try:
        return tuple(REGISTRY[step["technique"]].model_validate(step) for step, _ in run.steps)
    except (KeyError, ValidationError):
        return None


def _told(run: Run, after: Measurements, before: Measurements | None) -> Expectation:
    return Expectation(
        file=_ratio(run, after, before, "bytes"),
        download=_ratio(run, after, before, "bytes_zstd"),
        latency=_ratio(run, after, before, "latency"),
        drop=_drop(run, after, before),
    )


def _ratio(run: Run, after: Measurements, before: Measurements | None, name: str) -> Figure:
    """The interval is known of the first step only: later ones are told from two ratios."""
    ratio = after.ratios.get(name)
    value = ratio.value if ratio is not None else 1.0
    interval = ratio.ci95 if ratio is not None else None
    if before is not None:
        value, interval = value / (before.ratios[name].value if name in before.ratios else 1.0), None
    return Figure(value=round(value, 3), basis="measured", ci95=interval, job_id=run.job_id)


def _drop(run: Run, after: Measurements, before: Measurements | None) -> Figure | None:
    told = _loss(after)
    if told is None or not run.same_data:
        return None
    value, interval = told
    if before is not None:
        earlier = _loss(before)
        if earlier is None:
            return None
        value, interval = value - earlier[0], None
    return Figure(value=round(value, 5), basis="measured", ci95=interval, job_id=run.job_id)


def _loss(measured: Measurements) -> tuple[float, Interval | None] | None:
    """Measurements of earlier versions have no drop of their own."""
    if measured.drop is not None:
        return measured.drop.value, measured.drop.ci95
    before, after = measured.original.metric, measured.compressed.metric
    return None if before is None or after is None else (before.loss(after), None)
