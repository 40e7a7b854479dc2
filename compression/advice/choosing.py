"""Choosing: which strengths, and which pipeline, serve an objective within what may be lost."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from compression.advice.answer import Expectation, Figure
from compression.advice.evidence import Run, pipelines
from compression.advice.options import TRIED, Option
from compression.search.budget import Objective
from compression.technique import Confidence, Stage, Technique

MOST_LOST = 0.01
"""One point: the default of a recipe."""
BOLD = 0.03
WORTH = 1.05
_CAUTION: Mapping[Confidence, float] = {"high": 1.0, "medium": 1.5, "low": 2.5}
"""A guess of what is lost may be wrong by as much."""
_TRUST: Mapping[Confidence, float] = {"high": 1.0, "medium": 0.95, "low": 0.8}
"""Of the logarithm of a gain that is not sure."""
_ORDER: Sequence[Confidence] = ("low", "medium", "high")
_ZEROS_AND_FEW_BITS = 0.75
"""Zeros that are quantized compress by less than both factors together: measured 11.8, not 15.6."""
_LESS_TO_SPARE = 0.003
"""Lost besides where zeros are asked of a network that was cut already, at a guess."""
_UNSURE_FROM = 3
"""So many steps: nobody has measured the like, so one is less sure of them than of any of the steps."""
_OTHER_GAINS = 0.02
"""They decide between pipelines that serve the objective alike."""
_METRIC_WEIGHT = 100.0
_MUCH = 1.25
_EFFORT = 0.03
"""A training must gain as much to be worth its time."""


@dataclass(frozen=True)
class Pipeline:
    steps: tuple[Technique, ...]
    expected: Expectation
    confidence: Confidence
    reasons: tuple[str, ...]
    safe: bool = True
    """Whether less is lost than may be, by a cautious reading."""


def gain(expected: Expectation, objective: Objective) -> float:
    """Factor by which the objective is served; of the metric, any other gain there is."""
    file, download, latency = expected.file.value, expected.download.value, expected.latency.value
    match objective:
        case "bytes" | "memory":
            return file
        case "download":
            return download
        case "latency" | "macs":
            return latency
        case "metric":
            return max(file, download, latency)


def score(
    expected: Expectation, confidence: Confidence, objective: Objective, most_lost: float = MOST_LOST
) -> float:
    """Larger is better; minus infinity where more is lost than may be, by a cautious reading."""
    lost = _cautious(expected, confidence)
    if lost > most_lost:
        return -math.inf
    file, download, latency = expected.file.value, expected.download.value, expected.latency.value
    sure = _TRUST[confidence] * math.log(max(gain(expected, objective), 1e-6))
    others = _OTHER_GAINS * math.log(max(file * download * latency, 1e-6))
    return sure + others - (_METRIC_WEIGHT * max(lost, 0.0) if objective == "metric" else lost)


def _cautious(expected: Expectation, confidence: Confidence) -> float:
    if expected.drop is None:
        return 0.0
    return expected.drop.value * (_CAUTION[confidence] if expected.drop.basis == "estimated" else 1.0)


def strengths(own: Sequence[Option], objective: Objective) -> list[Option]:
    """Best first; those that lose too much come last, the gentlest first."""

    def key(option: Option) -> tuple[float, float]:
        return score(option.expected, option.confidence, objective), -_cautious(
            option.expected, option.confidence
        )

    return sorted(own, key=key, reverse=True)


def candidates(
    found: Mapping[str, Sequence[Option]], runs: Sequence[Run], objective: Objective
) -> list[Pipeline]:
    """Pipelines that help; those that jobs have measured come first. Some may not be `allowed`."""
    every = [*_measured(found, runs), *_combined(found, objective)]
    return [pipeline for pipeline in every if gain(pipeline.expected, objective) >= WORTH]


Allowed = Callable[[Pipeline], bool]
"""Whether a pipeline's steps can run in their order. Asked of few: it takes longer than to rank all."""


def best(possible: Sequence[Pipeline], objective: Objective, allowed: Allowed) -> Pipeline | None:
    """Where all lose too much, the one that loses least. None where there is none."""

    def key(pipeline: Pipeline) -> tuple[float, float]:
        return _worth(pipeline, objective, MOST_LOST), -_lost(pipeline)

    chosen = next(filter(allowed, sorted(possible, key=key, reverse=True)), None)
    return chosen and replace(chosen, safe=_lost(chosen) <= MOST_LOST)


def bolder(
    possible: Sequence[Pipeline], than: Pipeline, objective: Objective, allowed: Allowed
) -> Pipeline | None:
    """What gains a good deal more, and may lose up to three points."""
    least = _MUCH * gain(than.expected, objective)
    more = [
        pipeline
        for pipeline in possible
        if gain(pipeline.expected, objective) >= least and math.isfinite(_worth(pipeline, objective, BOLD))
    ]
    ranked = sorted(more, key=lambda pipeline: _worth(pipeline, objective, BOLD), reverse=True)
    chosen = next(filter(allowed, ranked), None)
    return chosen and replace(chosen, safe=False)


def _worth(pipeline: Pipeline, objective: Objective, most_lost: float) -> float:
    effort = _EFFORT * sum(step.trains for step in pipeline.steps)
    return score(pipeline.expected, pipeline.confidence, objective, most_lost) - effort


def _lost(pipeline: Pipeline) -> float:
    return _cautious(pipeline.expected, pipeline.confidence)


def _measured(found: Mapping[str, Sequence[Option]], runs: Sequence[Run]) -> Iterator[Pipeline]:
    known = {name: options[0].why for name, options in found.items()}
    for own in pipelines(runs):
        reasons = tuple(known.get(step.technique, TRIED) for step in own.steps)
        yield Pipeline(own.steps, own.expected, "high", reasons)


def _combined(found: Mapping[str, Sequence[Option]], objective: Objective) -> Iterator[Pipeline]:
    """One option of each stage at most, in the order of the stages; each of them helps."""
    helping = [
        option for own in found.values() for option in own if gain(option.expected, objective) >= WORTH
    ]
    by_stage = [[None, *(option for option in helping if option.stage is stage)] for stage in Stage]
    for chosen in product(*by_stage):
        parts = [option for option in chosen if option is not None]
        if parts:
            yield together(parts)


def together(parts: Sequence[Option]) -> Pipeline:
    """Factors multiply and losses add up, as far as is known."""
    stages = {option.stage for option in parts}
    overlap = _ZEROS_AND_FEW_BITS if {Stage.SPARSITY, Stage.PRECISION} <= stages else 1.0
    besides = _LESS_TO_SPARE if {Stage.STRUCTURE, Stage.SPARSITY} <= stages else 0.0
    expected = [option.expected for option in parts]
    drops = [one.drop for one in expected if one.drop is not None]
    alone = len(parts) == 1
    return Pipeline(
        steps=tuple(option.step for option in parts),
        expected=expected[0]
        if alone
        else Expectation(
            file=_product([one.file for one in expected]),
            download=_product([one.download for one in expected], overlap),
            latency=_product([one.latency for one in expected]),
            drop=_estimate(sum(drop.value for drop in drops) + besides) if drops else None,
        ),
        confidence=_confidence(parts),
        reasons=tuple(option.why for option in parts),
    )


def _confidence(parts: Sequence[Option]) -> Confidence:
    least = min(_ORDER.index(option.confidence) for option in parts)
    return _ORDER[max(0, least - 1) if len(parts) >= _UNSURE_FROM else least]


def _product(figures: Sequence[Figure], overlap: float = 1.0) -> Figure:
    return _estimate(math.prod(figure.value for figure in figures) * overlap)


def _estimate(value: float) -> Figure:
    """Even of parts that were measured: nobody measured them together."""
    return Figure(value=round(value, 4), basis="estimated")
