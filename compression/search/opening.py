"""What a search tries first: each kind of step once, alone or before the quantization that does best."""

from collections.abc import Iterator, Sequence

from compression.recipe import canonical
from compression.search.budget import Budget
from compression.search.space import Family, Pipeline, Space
from compression.search.trial import Trial
from compression.technique import Stage

_NEAR = 0.1
"""Of a score: a tenth of the objective."""


def first_round(space: Space, budget: Budget, trials: Sequence[Trial]) -> Iterator[Pipeline]:
    """Quantizations that need no training, alone; each other step before the best of them, middle strengths
    first; what is left, alone.
    """
    precision = [
        (family, pipeline)
        for family in space.families[Stage.PRECISION]
        if (pipeline := space.pipeline([(family, None)])) is not None
    ]
    quick = [(family, pipeline) for family, pipeline in precision if not pipeline.trained]
    yield from (pipeline for _, pipeline in quick)
    last = _best(quick, budget, trials)
    tail = [] if last is None else [(last, None)]
    others = [
        (family, strength)
        for stage in (Stage.STRUCTURE, Stage.SPARSITY, Stage.GRAPH)
        for family in space.families[stage]
        for strength in _from_the_middle(family)
    ]
    others.sort(key=lambda choice: _from_the_middle(choice[0]).index(choice[1]))
    yield from filter(None, (space.pipeline([choice, *tail]) for choice in others))
    yield from (pipeline for _, pipeline in precision if pipeline.trained)
    yield from filter(None, (space.pipeline([choice]) for choice in others))


def _best(quick: Sequence[tuple[Family, Pipeline]], budget: Budget, trials: Sequence[Trial]) -> Family | None:
    """By what was measured of them alone, if that is better than the original: of those that do about as well
    as the best, the one that loses least. Before anything was measured, by what is expected.
    """
    tried = {str(list(trial.steps)): trial for trial in trials if trial.measurements is not None}
    known = [
        (family, tried[own])
        for family, pipeline in quick
        if (own := str([canonical(each.step) for each in pipeline.proposals])) in tried
    ]
    if known:
        lowest = min(trial.score(budget) for _, trial in known)
        near = [each for each in known if each[1].score(budget) <= lowest + _NEAR]
        return min(near, key=lambda each: each[1].lost)[0] if lowest < 0 else None
    likeliest = max(quick, key=lambda each: each[1].faster * each[1].smaller, default=None)
    return None if likeliest is None else likeliest[0]


def _from_the_middle(family: Family) -> Sequence[float | None]:
    """The middle strength first, then those around it."""
    strengths = family.strengths
    if not strengths:
        return [None]
    middle = (len(strengths) - 1) / 2
    return sorted(strengths, key=lambda strength: (abs(strengths.index(strength) - middle), strength))
