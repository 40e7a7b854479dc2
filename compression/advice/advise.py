"""The whole answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from compression.advice import choosing, words
from compression.advice.answer import Advice, Plan, Recommendation, SearchPlan, StageName, Strength
from compression.advice.choosing import MOST_LOST, WORTH, Pipeline, gain, score, strengths
from compression.advice.evidence import Run
from compression.advice.omissions import left_out
from compression.advice.options import Option, brief, options, refused
from compression.architecture import architecture
from compression.inspection import DatasetInspection, ModelInspection
from compression.search.budget import Budget, Objective, labelled
from compression.search.space import space
from compression.technique import REGISTRY

_SECONDS = 1200
_AGREEMENT = 0.98


@dataclass(frozen=True)
class Asked:
    """About what, and for what."""

    model_id: str
    dataset_id: str | None = None
    target: str = "cpu"
    objective: Objective = "latency"


def advise(
    asked: Asked, model: ModelInspection, data: DatasetInspection | None, runs: Sequence[Run] = ()
) -> Advice:
    """From inspections, and from what jobs of this model measured, newest first."""
    found = options(model, data, runs)
    possible = choosing.candidates(found, runs, asked.objective)

    def allowed(pipeline: Pipeline) -> bool:
        return not refused(pipeline.steps, model, data)

    pipeline = choosing.best(possible, asked.objective, allowed)
    bolder = pipeline and choosing.bolder(possible, pipeline, asked.objective, allowed)
    recommended = _recommended(found, pipeline, asked.objective)
    return Advice(
        architecture=architecture(model),
        objective=asked.objective,
        summary=words.summary(model, data, (pipeline, bolder), asked.objective),
        notes=tuple(words.notes(model, data, asked.target)),
        recommendations=recommended,
        left_out=tuple(left_out({one.technique for one in recommended}, found, model, data)),
        recipe=None if pipeline is None else _plan(asked, pipeline, data),
        bolder=None if bolder is None else _plan(asked, bolder, data),
        search=_search(asked, model, data),
    )


def _recommended(
    found: Mapping[str, Sequence[Option]], pipeline: Pipeline | None, objective: Objective
) -> tuple[Recommendation, ...]:
    """What the recipe has, and what else serves the objective, by how well its best strength does so."""
    chosen = {step.technique for step in pipeline.steps} if pipeline is not None else set()
    ranked: list[tuple[float, Recommendation]] = []
    for name, own in found.items():
        ordered = strengths(own, objective)
        if name not in chosen and max(gain(option.expected, objective) for option in own) < WORTH:
            continue
        first = ordered[0]
        value = score(first.expected, first.confidence, objective)
        ranked.append((value, _recommendation(name, ordered, chosen=name in chosen)))
    ranked.sort(key=lambda pair: (-pair[0], pair[1].technique))
    return tuple(one for _, one in ranked)


def _recommendation(name: str, ordered: Sequence[Option], *, chosen: bool) -> Recommendation:
    first = ordered[0]
    risky = "" if math.isfinite(score(first.expected, first.confidence, "metric")) else _RISKY
    return Recommendation(
        technique=name,
        stage=cast("StageName", first.stage.name.lower()),
        why=first.why + risky,
        when=REGISTRY[name].guidance,
        strengths=tuple(
            Strength(step=brief(option.step), expected=option.expected, confidence=option.confidence)
            for option in ordered
        ),
        chosen=chosen,
    )


_RISKY = "; may well lose more than a point, so measure it before you rely on it"


def _plan(asked: Asked, pipeline: Pipeline, data: DatasetInspection | None) -> Plan:
    recipe: dict[str, Any] = {"steps": [brief(step) for step in pipeline.steps]}
    recipe |= {"max_metric_drop": MOST_LOST} if labelled(data) else {}
    return Plan(
        request={**_named(asked), "recipe": recipe},
        expected=pipeline.expected,
        confidence=pipeline.confidence,
        why=words.reasons(pipeline),
    )


def _search(asked: Asked, model: ModelInspection, data: DatasetInspection | None) -> SearchPlan | None:
    limit = {"max_metric_drop": MOST_LOST} if labelled(data) else {"min_agreement": _AGREEMENT}
    budget = {**limit, "objective": asked.objective, "seconds": _SECONDS}
    if space(model, data, Budget.model_validate(budget)).empty:
        return None
    why = "tries combinations and strengths on this very model and keeps the best that was measured"
    return SearchPlan(request={**_named(asked), "budget": budget}, why=why)


def _named(asked: Asked) -> dict[str, Any]:
    named: dict[str, Any] = {"model_id": asked.model_id}
    named |= {"dataset_id": asked.dataset_id} if asked.dataset_id is not None else {}
    named |= {"target": asked.target} if asked.target != "cpu" else {}
    return named
