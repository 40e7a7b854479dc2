"""What was left out, why, and what would have to be otherwise."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from compression.advice.answer import LeftOut
from compression.advice.choosing import WORTH, gain
from compression.advice.options import Option, refused
from compression.architecture import architecture
from compression.inspection import DatasetInspection, ModelInspection
from compression.recipe import Recipe
from compression.search.budget import Objective
from compression.technique import REGISTRY, Technique

_OBJECTIVES: Sequence[Objective] = ("latency", "bytes", "download")


def left_out(
    recommended: Collection[str],
    found: Mapping[str, Sequence[Option]],
    model: ModelInspection,
    data: DatasetInspection | None,
) -> Iterator[LeftOut]:
    """Every technique that is not recommended."""
    for name in sorted(set(REGISTRY) - set(recommended)):
        step = REGISTRY[name](technique=name)
        reason = step.check(model)
        if reason is not None:
            yield LeftOut(technique=name, reason=reason)
        elif name in found:
            yield _other_objective(name, found[name])
        elif not step.promises:
            reason = f"makes nothing smaller or faster. {type(step).guidance.split('. ')[0]}"
            yield LeftOut(technique=name, reason=_sentence(reason))
        else:
            yield _lacking(step, model, data) or _unsuited(step, model)


def _other_objective(name: str, own: Sequence[Option]) -> LeftOut:
    helps = [
        objective
        for objective in _OBJECTIVES
        if any(gain(option.expected, objective) >= WORTH for option in own)
    ]
    way = f"ask with objective={helps[0]}" if helps else None
    gains = f"helps with {' and '.join(helps)}" if helps else "changes the graph alone"
    return LeftOut(technique=name, reason=f"{gains}, not with what is asked for", way_out=way)


def _lacking(step: Technique, model: ModelInspection, data: DatasetInspection | None) -> LeftOut | None:
    """What the data set has not."""
    reasons = refused((step,), model, data)
    if not reasons:
        return None
    reason = reasons[0].removeprefix(f"{step.technique}: ")
    if data is None:
        way = "name a data set: ?dataset_id=…; some hundred samples like those of production, labels or none"
    else:
        ways = Recipe.model_construct(steps=(step,)).ways_out(data)
        way = ways[0].title if ways else "send a data set that has what is missing"
    return LeftOut(technique=step.technique, reason=reason, way_out=way)


def _unsuited(step: Technique, model: ModelInspection) -> LeftOut:
    kind = architecture(model)
    return LeftOut(
        technique=step.technique,
        reason=_sentence(f"not for this {kind} network. {type(step).guidance.split('. ')[0]}"),
        way_out="POST it as a job all the same: it is allowed, and measured",
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
