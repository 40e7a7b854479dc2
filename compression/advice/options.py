"""Options: the steps worth trying, with what to expect of each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from compression.advice.answer import Expectation, Figure
from compression.advice.evidence import Run, single
from compression.architecture import small
from compression.inspection import DatasetInspection, ModelInspection
from compression.recipe import Recipe, canonical
from compression.technique import REGISTRY, Confidence, Promise, Proposal, Stage, Technique

_OVERHEAD = 1.1
TRIED = "tried on this very model"


@dataclass(frozen=True)
class Option:
    step: Technique
    expected: Expectation
    confidence: Confidence
    why: str

    @property
    def stage(self) -> Stage:
        return type(self.step).stage


def brief(step: Technique) -> dict[str, Any]:
    """As a recipe may have it: without the defaults."""
    return {"technique": step.technique, **step.model_dump(mode="json", exclude_defaults=True)}


def options(
    model: ModelInspection, data: DatasetInspection | None, runs: Sequence[Run]
) -> dict[str, list[Option]]:
    """By technique, those that this model and data allow. What was measured comes before estimates of the
    same step.
    """
    measured = [own for own in single(runs) if not any(True for _ in own.steps[0].references())]
    found: dict[str, list[Option]] = {}
    for name in sorted(REGISTRY):
        proposals = list(REGISTRY[name].proposals(model, data))
        why = proposals[0].why if proposals else TRIED
        seen = [
            Option(own.steps[0], own.expected, "high", why)
            for own in measured
            if own.steps[0].technique == name
        ]
        every = _distinct([*seen, *(_estimated(proposal, model) for proposal in proposals)])
        allowed = [option for option in every if not refused((option.step,), model, data)]
        if allowed:
            found[name] = allowed
    return found


def refused(
    steps: tuple[Technique, ...], model: ModelInspection, data: DatasetInspection | None
) -> list[str]:
    """Why these steps cannot run, in this order."""
    return [error.detail for error in Recipe.model_construct(steps=steps).check(model, data)]


def _distinct(every: Iterable[Option]) -> Iterator[Option]:
    """The first of each step."""
    known: list[dict[str, Any]] = []
    for option in every:
        own = canonical(option.step)
        if own not in known:
            known.append(own)
            yield option


def _estimated(proposal: Proposal, model: ModelInspection) -> Option:
    """Where the runtime's overhead is most of a run, no proposal is believed to be much faster."""
    faster = min(proposal.faster, _OVERHEAD) if small(model) else proposal.faster
    file = proposal.smaller if Promise.SMALLER in type(proposal.step).promises else 1.0
    expected = Expectation(
        file=_estimate(file),
        download=_estimate(proposal.smaller),
        latency=_estimate(faster),
        drop=_estimate(proposal.drop),
    )
    return Option(proposal.step, expected, proposal.confidence, proposal.why)


def _estimate(value: float) -> Figure:
    return Figure(value=round(value, 3), basis="estimated")
