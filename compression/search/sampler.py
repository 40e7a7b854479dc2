"""Pipelines that Optuna thinks of, from those that were tried."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler

from compression.recipe import canonical
from compression.search.budget import Budget
from compression.search.space import STEP, Family, Pipeline, Space
from compression.search.trial import Steps, Trial
from compression.technique import REGISTRY

_NONE = "none"
_ASKED = 32
_WORST = 1e3

optuna.logging.set_verbosity(optuna.logging.ERROR)


def sample(space: Space, budget: Budget, trials: Sequence[Trial], seed: int) -> Pipeline | None:
    """A pipeline that was not tried, by the tree-structured Parzen estimator: one choice for each stage and
    a strength where there is one. None where it finds nothing new.
    """
    labels = {
        stage.name: {f"{family.technique}/{at}": family for at, family in enumerate(own)}
        for stage, own in space.families.items()
        if own
    }
    study = optuna.create_study(sampler=TPESampler(seed=seed, n_startup_trials=4))
    tried = [list(trial.steps) for trial in trials]
    for trial in trials:
        if trial.state == "succeeded":
            _tell(study, labels, trial.steps, min(trial.score(budget), _WORST))
    for _ in range(_ASKED):
        asked = study.ask()
        pipeline = space.pipeline(_chosen(asked, labels))
        if pipeline is not None and list(pipeline.steps) not in tried:
            return pipeline
        study.tell(asked, _WORST)
    return None


Labels = Mapping[str, Mapping[str, Family]]


def _chosen(asked: optuna.Trial, labels: Labels) -> list[tuple[Family, float | None]]:
    chosen: list[tuple[Family, float | None]] = []
    for stage, families in labels.items():
        label = asked.suggest_categorical(stage, [_NONE, *families])
        if label != _NONE:
            family = families[label]
            strength = None
            if family.strengths:
                low, high = _bounds(family)
                strength = asked.suggest_float(label, low, high, step=STEP)
            chosen.append((family, strength))
    return chosen


def _bounds(family: Family) -> tuple[float, float]:
    """A whole number of steps apart, as Optuna wants them."""
    low, high = family.strengths[0], family.strengths[-1]
    return low, round(low + int(round((high - low) / STEP, 6)) * STEP, 6)


def _tell(study: optuna.Study, labels: Labels, steps: Steps, score: float) -> None:
    """What was tried, if it is a point of this space; it may come from one before an update."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    left = list(steps)
    for stage, families in labels.items():
        distributions[stage] = CategoricalDistribution([_NONE, *families])
        params[stage] = _NONE
        for label, family in families.items():
            for step in left:
                strength = _strength(family, step)
                if strength is not None:
                    params[stage] = label
                    left.remove(step)
                    if family.strengths:
                        low, high = _bounds(family)
                        params[label] = min(max(strength, low), high)
                        distributions[label] = FloatDistribution(low, high, step=STEP)
                    break
    if not left:
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))


def _strength(family: Family, step: Mapping[str, Any]) -> float | None:
    """Of the family's member that a step is; 0 where nothing varies, None if it is none of the family."""
    if step["technique"] != family.technique:
        return None
    given = canonical(REGISTRY[family.technique].model_validate(step))
    own = canonical(family.proposals[0].step)
    differing = {name for name in own if own[name] != given.get(name)} - {family.field}
    if differing:
        return None
    return float(given[family.field]) if family.field else 0.0
