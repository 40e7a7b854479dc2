"""The space of a search: pipelines made of what techniques propose, one of each stage at most."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import compression.techniques  # noqa: F401  loading the folder fills the registry
from compression.inspection import DatasetInspection, ModelInspection
from compression.recipe import Recipe, canonical
from compression.search.budget import Budget
from compression.technique import REGISTRY, Promise, Proposal, Stage, Technique

STEP = 0.05
"""Between two strengths that are tried: finer ones differ by less than their measurements' noise."""
_WORTH = 1.05


@dataclass(frozen=True)
class Family:
    """Proposals of one technique that differ in one number, or a single one."""

    proposals: tuple[Proposal, ...]
    field: str | None = None

    @property
    def technique(self) -> str:
        return self.proposals[0].step.technique

    @property
    def stage(self) -> Stage:
        return type(self.proposals[0].step).stage

    @cached_property
    def strengths(self) -> tuple[float, ...]:
        """Those proposed, ascending; none where nothing varies."""
        return tuple(sorted(self._strength(proposal) for proposal in self.proposals)) if self.field else ()

    def _strength(self, proposal: Proposal) -> float:
        return float(getattr(proposal.step, self.field or ""))

    def at(self, strength: float | None) -> Proposal:
        """Between two proposals, what to expect lies between too."""
        if self.field is None or strength is None:
            return self.proposals[0]
        known = sorted(self.proposals, key=self._strength)
        for below, above in pairwise(known):
            low, high = self._strength(below), self._strength(above)
            if low <= strength <= high:
                return self._between(below, above, strength, (strength - low) / (high - low))
        return known[0] if strength < self._strength(known[0]) else known[-1]

    def _between(self, below: Proposal, above: Proposal, strength: float, part: float) -> Proposal:
        changed = {**canonical(below.step), str(self.field): round(strength, 6)}

        def mixed(name: str) -> float:
            low, high = getattr(below, name), getattr(above, name)
            return float(low + part * (high - low))

        nearer = above if part > 1 / 2 else below
        return Proposal(
            step=type(below.step).model_validate(changed),
            smaller=mixed("smaller"),
            faster=mixed("faster"),
            drop=mixed("drop"),
            confidence=nearer.confidence,
            why=nearer.why,
        )


@dataclass(frozen=True)
class Pipeline:
    """Steps in the order of their stages, with what to expect of all together."""

    proposals: tuple[Proposal, ...]

    @cached_property
    def steps(self) -> tuple[dict[str, Any], ...]:
        return tuple(canonical(proposal.step) for proposal in self.proposals)

    @property
    def trained(self) -> bool:
        return epochs(self.steps) > 0

    @property
    def drop(self) -> float:
        return sum(proposal.drop for proposal in self.proposals)

    @property
    def smaller(self) -> float:
        return _product(proposal.smaller for proposal in self.proposals)

    @property
    def faster(self) -> float:
        return _product(proposal.faster for proposal in self.proposals)


def _product(values: Iterable[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return product


def epochs(steps: Iterable[Mapping[str, Any]]) -> float:
    """Of all trainings together."""
    return sum(float(training.get("epochs", 0)) for _, training in _trainings(steps))


def shortened(steps: Sequence[Mapping[str, Any]], share: float) -> list[dict[str, Any]]:
    """The same steps with a share of their training."""
    changed = [dict(step) for step in steps]
    for index, training in _trainings(steps):
        changed[index]["training"] = {**training, "epochs": training.get("epochs", 0) * share}
    return changed


def _trainings(steps: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, step in enumerate(steps):
        training = step.get("training")
        if isinstance(training, Mapping):
            yield index, training


@dataclass(frozen=True)
class Space:
    """`families` by stage; those of a stage exclude each other."""

    model: ModelInspection
    data: DatasetInspection | None
    families: Mapping[Stage, tuple[Family, ...]]

    @property
    def empty(self) -> bool:
        return not any(self.families.values())

    def pipeline(self, chosen: Iterable[tuple[Family, float | None]]) -> Pipeline | None:
        """None where the steps do not go together, or nothing was chosen."""
        ordered = sorted(chosen, key=lambda choice: choice[0].stage)
        made = Pipeline(tuple(family.at(strength) for family, strength in ordered))
        steps = tuple(proposal.step for proposal in made.proposals)
        if not steps or Recipe.model_construct(steps=steps).check(self.model, self.data):
            return None
        return made


def space(model: ModelInspection, data: DatasetInspection | None, budget: Budget) -> Space:
    """Of the steps that this model and data allow, those that help with something the budget asks for."""
    found: dict[Stage, tuple[Family, ...]] = {}
    for stage in Stage:
        techniques = [REGISTRY[name] for name in sorted(REGISTRY) if REGISTRY[name].stage is stage]
        proposals = [
            proposal
            for technique in techniques
            for proposal in technique.proposals(model, data)
            if _helps(proposal, budget)
            and not Recipe.model_construct(steps=(proposal.step,)).check(model, data)
        ]
        found[stage] = tuple(families(proposals))
    return Space(model, data, found)


def refusals(model: ModelInspection, data: DatasetInspection | None) -> list[str]:
    """Why each technique, with its defaults, is of no use."""
    found = []
    for name in sorted(REGISTRY):
        step = REGISTRY[name](technique=name)
        found += [error.detail for error in Recipe.model_construct(steps=(step,)).check(model, data)]
    return found


def _helps(proposal: Proposal, budget: Budget) -> bool:
    """With the objective, or with a limit."""
    file = proposal.smaller if Promise.SMALLER in type(proposal.step).promises else 1.0
    asked = {
        "latency": proposal.faster,
        "macs": proposal.faster,
        "bytes": file,
        "memory": file,
        "download": proposal.smaller,
        "metric": 1.0,
    }
    limits = {
        "max_latency_ratio": proposal.faster,
        "max_latency_ms": proposal.faster,
        "max_macs": proposal.faster,
        "max_bytes": file,
        "max_memory": file,
    }
    wanted = [asked[budget.objective]]
    wanted += [gain for name, gain in limits.items() if getattr(budget, name) is not None]
    return max(wanted) >= _WORTH


def families(proposals: Iterable[Proposal]) -> list[Family]:
    """Neighbours that differ in one number belong together."""
    found: list[Family] = []
    for proposal in proposals:
        joined = _joined(found[-1], proposal) if found else None
        if joined is None:
            found.append(Family((proposal,)))
        else:
            found[-1] = joined
    return found


def _joined(family: Family, proposal: Proposal) -> Family | None:
    field = _difference(family.proposals[-1].step, proposal.step)
    if field is None or family.field not in {None, field}:
        return None
    return Family((*family.proposals, proposal), field)


def _difference(one: Technique, other: Technique) -> str | None:
    """The field of fractions in which two steps differ, if it is the only one."""
    if type(one) is not type(other):
        return None
    differing = [name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)]
    if len(differing) != 1:
        return None
    values = getattr(one, differing[0]), getattr(other, differing[0])
    return differing[0] if all(isinstance(value, float) for value in values) else None
