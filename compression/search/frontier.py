"""The Pareto frontier: trials that no other one beats in everything that is looked at."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from compression.measurement import Measurements
from compression.search.budget import cost
from compression.search.trial import Trial

Axis = Literal["metric", "latency", "bytes", "download", "macs", "memory"]
AXES: tuple[Axis, ...] = get_args(Axis)


def frontier(trials: Sequence[Trial], axes: Sequence[Axis]) -> list[Trial]:
    """Along the first axis, smallest first; trials without one of the measurements are left out."""
    points = {
        trial.number: place
        for trial in trials
        if trial.measurements is not None and (place := _place(trial.measurements, axes)) is not None
    }
    found = [
        trial
        for trial in trials
        if trial.number in points
        and not any(
            _dominates(other, points[trial.number])
            or (other == points[trial.number] and number < trial.number)
            for number, other in points.items()
        )
    ]
    return sorted(found, key=lambda trial: points[trial.number])


def _place(measured: Measurements, axes: Sequence[Axis]) -> tuple[float, ...] | None:
    values = [cost(axis, measured) for axis in axes]
    if any(value is None or math.isnan(value) for value in values):
        return None
    return tuple(float(value) for value in values if value is not None)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )
