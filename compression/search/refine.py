"""The strength at which a limit is just kept: halving the distance between one that does and one that breaks
it. What is expected to lose more is taken to do so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.search.budget import Budget
from compression.search.space import STEP, Family, Space
from compression.search.trial import Steps, Trial
from compression.technique import Stage


@dataclass(frozen=True)
class _Line:
    """Trials that differ in the strength of one step, `at` its place."""

    steps: Steps
    at: int
    family: Family
    known: Mapping[float, bool]
    """Whether the limits were kept, by strength."""


def refined(space: Space, budget: Budget, trials: Sequence[Trial]) -> Iterator[tuple[Steps, float]]:
    """Steps and shares of training that would tell more of the best trials, best first."""
    most = max((trial.share for trial in trials if trial.trained), default=1.0)
    over = [
        trial
        for trial in trials
        if trial.measurements is not None and (not trial.trained or trial.share == most)
    ]
    for trial in sorted(over, key=lambda one: (one.score(budget), one.number)):
        for line in _lines(space, budget, trial, over):
            strength = _between(line)
            if strength is not None:
                step = {**line.steps[line.at], str(line.family.field): strength}
                yield (*line.steps[: line.at], step, *line.steps[line.at + 1 :]), trial.share


def _lines(space: Space, budget: Budget, trial: Trial, over: Sequence[Trial]) -> Iterator[_Line]:
    families = {
        family.technique: family for stage in Stage for family in space.families[stage] if family.strengths
    }
    for at, step in enumerate(trial.steps):
        family = families.get(step["technique"])
        if family is None or family.field is None:
            continue
        known = {
            float(other.steps[at][family.field]): not other.excesses(budget)
            for other in over
            if _same(trial.steps, other.steps, at, family.field)
        }
        yield _Line(trial.steps, at, family, known)


def _same(one: Steps, other: Steps, at: int, field: str) -> bool:
    """But for that field."""
    if len(one) != len(other):
        return False

    def blank(steps: Steps) -> list[Mapping[str, Any]]:
        return [{**step, field: None} if place == at else step for place, step in enumerate(steps)]

    return blank(one) == blank(other)


def _between(line: _Line) -> float | None:
    """None where the limit is known well enough, or lies beyond what was proposed."""
    low, high = line.family.strengths[0], line.family.strengths[-1]
    grid = [round(low + index * STEP, 6) for index in range(int((high - low) / STEP + 1.5))]
    ordered = sorted({*(s for s in grid if s <= high), *line.known}, key=lambda s: (_lost(line.family, s), s))
    kept = max((ordered.index(s) for s, fine in line.known.items() if fine), default=-1)
    broken = min(
        (ordered.index(s) for s, fine in line.known.items() if not fine and ordered.index(s) > kept),
        default=len(ordered),
    )
    middle = (kept + broken) // 2
    if middle in {kept, broken} or middle < 0 or ordered[middle] in line.known:
        return None
    near = [abs(ordered[middle] - s) for s in line.known]
    return ordered[middle] if min(near) >= STEP / 2 else None


def _lost(family: Family, strength: float) -> float:
    return family.at(strength).drop
