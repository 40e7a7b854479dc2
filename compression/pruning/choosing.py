"""What to cut: units by criterion, and whole residual blocks where the outputs then change less."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compression import runtime, samples
from compression.dataset import Array, Split
from compression.engine import insert_batchnorm, normalise
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph import blocks, channels
from compression.graph.channels import Channels
from compression.measure.fidelity import Fidelity
from compression.model import Model
from compression.pruning.costs import Costs
from compression.pruning.criteria import ABSOLUTE, scores
from compression.pruning.evidence import Evidence
from compression.pruning.options import Cut, Options
from compression.pruning.reconstruction import Samples, reconstructed
from compression.pruning.selection import Budget, Kept, Scores, select, smallest
from compression.technique import Context
from compression.training.tuning import statistics

_JUDGED = 256
"""Samples on which outputs are compared."""
_COUNTED, _MEASURED = 24, 8
"""Bisections where a cost is counted, and where it is measured."""
_PATIENCE = 2
"""Further blocks are tried until so many made it worse."""


@dataclass(frozen=True)
class Choice:
    cut: Cut
    model: Model
    """After it."""


class Chooser:
    """Of one network; `start` is what ratios are of."""

    def __init__(self, start: Model, options: Options, context: Context) -> None:
        """Errors: CompressionError `macs_unknown`, E_MODEL_RUN."""
        self._start, self._options, self._context = start, options, context
        self._split = samples.looked_at(start, context.data, context.seed)
        self._feeds = next(samples.first(self._split, start.inputs, 1))
        whole = self._look(start)
        self.sizes = {group.name: group.size for group in whole.groups}
        self.costs = Costs(options.target, whole, self._feeds, context.scratch)

    def counted(self, model: Model) -> tuple[int | None, int]:
        """Multiply-accumulates of one sample of the data, and parameters."""
        return channels.cost(self._look(model), {})

    def given(self, model: Model, cut: Cut, *, correct: bool) -> Choice:
        """A cut that is known already. Errors: CompressionError `unknown_block`, `unknown_group`."""
        looked = self._look(self._without(model, cut.dropped))
        return Choice(cut, self._carried_out(looked, cut.kept, correct=correct))

    def best(self, model: Model, limit: float) -> Choice:
        """Of a network that costs at most `limit`, as a share of the start.

        Errors: CompressionError `nothing_to_prune`, `target_unreachable`.
        """
        first = self._chosen(model, (), limit)
        if not self._options.blocks:
            return first
        found, worse = [(self._distance(first.model), first)], 0
        for dropped in self._prefixes(model):
            if worse == _PATIENCE:
                break
            choice = self._chosen(model, dropped, limit)
            distance = self._distance(choice.model)
            worse = worse + 1 if distance > min(found, key=_first)[0] else 0
            found.append((distance, choice))
        return min(found, key=_first)[1]

    def _chosen(self, model: Model, dropped: Sequence[str], limit: float) -> Choice:
        looked = self._look(self._without(model, dropped))
        enough = bool(dropped) and self.costs.of(looked, {}) <= limit
        kept = {} if enough else self._selected(self._evidence(looked), limit)
        return Choice(Cut(tuple(dropped), kept), self._carried_out(looked, kept, correct=True))

    def _carried_out(self, looked: Channels, kept: Kept, *, correct: bool) -> Model:
        if not correct or not self._options.reconstruct:
            return Model(channels.cut(looked, kept))
        using = Samples(self._split, self._options.samples, self._context.threads)
        return Model(reconstructed(looked, kept, using))

    def _selected(self, evidence: Evidence, limit: float) -> Kept:
        looked, options = evidence.looked, self._options
        found = self._scores(evidence)
        if not found:
            raise CompressionError(
                "nothing_to_prune",
                "the model has no channels, neurons or attention heads that can be cut out",
                ErrorKind.UNSUPPORTED,
            )
        weights = self.costs.units(looked) if options.criterion in ABSOLUTE else dict.fromkeys(found, 1.0)
        tries = _MEASURED if options.target == "latency" else _COUNTED
        budget = Budget(lambda kept: self.costs.of(looked, kept), limit, tries)
        ranges = {
            name: options.limits.range(self.sizes.get(name, len(own)), len(own))
            for name, own in found.items()
        }
        kept = select(found, weights, ranges, budget, uniform=options.uniform)
        if kept is None:
            raise _unreachable(1 - self.costs.of(looked, smallest(found, ranges)), options)
        return kept

    def _scores(self, evidence: Evidence) -> Scores:
        """Of the groups that are not excluded."""
        looked = evidence.looked
        if self._options.criterion == "bn_scale":
            ready = normalise(Model(looked.model))
            evidence = self._evidence(self._look(insert_batchnorm(ready, statistics(ready, self._context))))
        spared = {
            group.name
            for group in looked.groups
            if not {group.name, *(member.tensor for member in group.members)}.isdisjoint(
                self._options.exclude
            )
        }
        own = {group.name for group in looked.groups} - spared
        return {
            name: values for name, values in scores(self._options.criterion, evidence).items() if name in own
        }

    def _prefixes(self, model: Model) -> Iterator[tuple[str, ...]]:
        """One block more each time: the one whose loss changes outputs least for what it saves."""
        dropped: tuple[str, ...] = ()
        while True:
            looked = self._look(self._without(model, dropped))
            names = [block.name for block in blocks.find(looked.model.graph, looked.shapes)]
            names = [name for name in names if name not in self._options.exclude]
            if not names:
                return
            dropped = (*dropped, min(names, key=lambda name: self._price(model, (*dropped, name))))
            yield dropped

    def _price(self, model: Model, dropped: Sequence[str]) -> float:
        left = self._without(model, dropped)
        return self._distance(left) / max(1 - self.costs.of(self._look(left), {}), 1e-6)

    def _without(self, model: Model, dropped: Sequence[str]) -> Model:
        for name in dropped:
            looked = self._look(model)
            found = {block.name: block for block in blocks.find(looked.model.graph, looked.shapes)}
            if name not in found:
                raise CompressionError("unknown_block", f"the model has no residual block {name!r}")
            model = Model(blocks.drop(model.proto, found[name]))
        return model

    def _distance(self, model: Model) -> float:
        """How far outputs are from those of the start: KL divergence of classes, else noise to signal."""
        fidelity = Fidelity()
        for reference, output in zip(self._reference, self._outputs(model), strict=True):
            fidelity.add(reference, output)
        return fidelity.kl if fidelity.kl is not None else 10 ** (-(fidelity.sqnr_db or 0.0) / 10)

    @cached_property
    def _reference(self) -> list[Mapping[str, Array]]:
        return list(self._outputs(self._start))

    def _outputs(self, model: Model) -> Iterator[Mapping[str, Array]]:
        some = Split({name: array[:_JUDGED] for name, array in self._split.arrays.items()}, None)
        session = runtime.session(model.proto, threads=self._context.threads)
        return runtime.run_split(session, some, self._start.inputs)

    def _look(self, model: Model) -> Channels:
        return channels.find(model.proto, self._feeds)

    def _evidence(self, looked: Channels) -> Evidence:
        return Evidence(looked, self._split, self._options.samples, self._context.seed)


def _first(pair: tuple[float, Choice]) -> float:
    return pair[0]


def _unreachable(most: float, options: Options) -> CompressionError:
    ratio = float(np.floor(most * 100) / 100)
    if ratio <= 0:
        return CompressionError(
            "nothing_to_prune",
            "no group of channels is larger than the limits allow (min_channels, max_group_ratio, exclude)",
            ErrorKind.UNSUPPORTED,
        )
    return CompressionError(
        "target_unreachable",
        f"at most {most:.0%} of the {options.target} can go within the limits, not {options.ratio:.0%}",
        suggestions=[
            Suggestion(f"Remove {ratio:.0%}", {"ratio": ratio}),
            Suggestion("Allow smaller groups", {"min_channels": 1, "max_group_ratio": 0.95, "round_to": 1}),
        ],
    )
