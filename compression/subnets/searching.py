"""Subnet search as a step: the supernet's training, the search, the cut and its recovery."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from compression import samples
from compression.engine import Precision, fold_batchnorm, normalise
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.model import Model
from compression.pruning.evidence import Evidence
from compression.pruning.reconstruction import Activations, Samples
from compression.subnets.choosing import described, within
from compression.subnets.finals import Finals, corrected, told
from compression.subnets.judging import Judge, recalibrated
from compression.subnets.network import Network
from compression.subnets.options import Options
from compression.subnets.prices import Prices, prices
from compression.subnets.search import Found, Search
from compression.subnets.space import Space, Subnet, space
from compression.subnets.supernet import Sandwich, Supernet
from compression.technique import Context
from compression.training import tuning
from compression.training.checkpoint import Checkpoint
from compression.training.extension import Stage
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.repeatable import repeatable

_TRAINED, _SEARCHED, _PLAYED = 0.5, 0.1, 0.2
"""Shares of a step's progress; the rest is the recovery's."""
_FITTED = 256
"""Samples at most that a sub-network which is judged is corrected on."""
_RECOVERY = "recovery"
_JUDGED, _CALIBRATED = 2, 8
"""Batches of 128 that statistics are taken from: of each sub-network that is judged, of the one chosen."""


@dataclass(frozen=True)
class _Choice:
    """What was chosen; in checkpoints as JSON, so that a recovery goes on without a search."""

    kept: Mapping[str, list[int]]
    dropped: tuple[str, ...]
    details: Mapping[str, Any]


def find(model: Model, options: Options, context: Context) -> tuple[Model, Mapping[str, Any]]:
    """The sub-network chosen, and what there is to say of it.

    A run that was interrupted goes on from its checkpoint, in the supernet's training or in the recovery.

    Errors: CompressionError `nothing_to_prune`, `target_unreachable`, `macs_unknown`, and those of training.
    """
    searching = _Searching(fold_batchnorm(normalise(model)), options, context)
    earlier = Checkpoint.open(context.resume)
    if earlier is not None and earlier.stage == _RECOVERY:
        notes = earlier.notes
        choice = _Choice(notes["kept"], tuple(notes["dropped"]), notes["details"])
        chosen = Model(searching.network.carved(choice.kept, choice.dropped))  # values: the checkpoint's
    else:
        chosen, choice = searching.chosen()
    return searching.recovered(chosen, choice)


_Judged = Callable[[Subnet], Mapping[str, float]]


class _Ways(NamedTuple):
    """How sub-networks are judged, and where their weights come from."""

    judged: _Judged
    """In the search."""
    finals: Judge
    """Of those cut out."""
    shared: Callable[[Subnet], Model] | None
    """With the supernet's weights; None: there is no supernet."""
    history: Mapping[str, Any] | None
    """Of the supernet's training."""


class _Searching:
    def __init__(self, start: Model, options: Options, context: Context) -> None:
        self._start, self._options, self._context = start, options, context
        self._limit, self._teacher = 1 - options.ratio, context.original or start
        self._split = tuning.samples(context)
        self._feeds = next(samples.first(self._split, start.inputs, 1))
        self.network = Network(start, self._feeds)

    def chosen(self) -> tuple[Model, _Choice]:
        searched = self._space()
        prices = self._prices(searched)
        if prices.of(searched.smallest) > self._limit:
            raise _unreachable(1 - prices.of(searched.smallest), self._options)
        ways = self._untrained(searched) if self._options.training is None else self._shared(searched, prices)
        with repeatable(self._context.threads):
            found = self._found(searched, prices, ways.judged)
            finalists, checks = within(found, self._limit, prices.measured, self._options.finalists)
            played = self._finals(searched, ways).played(finalists)
        details = {
            **described(played[0].found, found, searched, self.network),
            "checks": checks,
            "finalists": told(played),
            "supernet": ways.history,
        }
        return played[0].model, _Choice(details["kept"], tuple(details["dropped"]), details)

    def recovered(self, chosen: Model, choice: _Choice) -> tuple[Model, Mapping[str, Any]]:
        options, context = self._options, self._context
        recovery: Mapping[str, Any] | None = None
        if options.recovery is not None and options.recovery.epochs:
            notes = {"kept": choice.kept, "dropped": list(choice.dropped), "details": choice.details}
            begin = _TRAINED + _SEARCHED + _PLAYED
            chosen, recovery = tuning.fine_tune(
                chosen,
                options.recovery,
                context,
                teacher=self._teacher,
                stage=Stage(_RECOVERY, notes, (begin, 1 - begin)),
                renormalise=True,
            )
        costs = zip(self.network.cost({}, ()), self.network.cost(choice.kept, choice.dropped), strict=True)
        counted = {
            name: {"before": before, "after": after}
            for name, (before, after) in zip(("macs", "params"), costs, strict=True)
        }
        return chosen, {**choice.details, **counted, "recovery": recovery}

    def _space(self) -> Space:
        options = self._options
        evidence = Evidence(self.network.looked, self._split, options.samples, self._context.seed)
        blocks = self.network.blocks if options.depth else ()
        found = space(evidence, options.criterion, options.widths, options.round_to, blocks)
        if found.empty:
            raise CompressionError(
                "nothing_to_prune",
                "nothing in the model is elastic: no group of channels, neurons or attention heads is wide "
                "enough for two of the widths, and no residual block can be left out",
                ErrorKind.UNSUPPORTED,
            )
        return found

    def _prices(self, searched: Space) -> Prices:
        return prices(self._options.target, self.network, searched, self._context.scratch)

    def _untrained(self, searched: Space) -> _Ways:
        """Sub-networks have the original's weights, corrected by least squares."""
        training = self._options.recovery or Training()
        goal = Objective.of(self._start, self._split, training, self._context, self._teacher)
        judge = Judge(goal, self._split, training, self._context, (), Precision())
        few = Samples(self._split, min(self._options.samples, _FITTED), self._context.threads)

        known = Activations(self.network.looked, few)

        def judged(subnet: Subnet) -> Mapping[str, float]:
            return judge(corrected(searched, self.network, subnet, few, known))

        return _Ways(judged, judge, None, None)

    def _shared(self, searched: Space, prices: Prices) -> _Ways:
        """Sub-networks have the weights of a supernet, and statistics of their own."""
        training = self._options.training
        assert training is not None  # noqa: S101  for the type checker
        supernet, history = self._trained(searched, prices, training)
        trained, calibration = supernet.trained(), self._calibration(supernet, _CALIBRATED)
        judge = self._judge(supernet, training)

        def carved(subnet: Subnet) -> Model:
            return Model(trained.carved(searched.kept(subnet), subnet.dropped))

        def shared(subnet: Subnet) -> Model:
            return fold_batchnorm(recalibrated(carved(subnet), calibration))

        finals = replace(judge, calibration=(), precision=Precision())
        return _Ways(lambda subnet: judge(carved(subnet)), finals, shared, history)

    def _trained(
        self, searched: Space, prices: Prices, training: Training
    ) -> tuple[Supernet, Mapping[str, Any]]:
        """What is trained lies within the limit, as far as half of it: nothing else is going to be chosen."""
        context = self._context

        def fitted(subnet: Subnet, limit: float) -> Subnet:
            return searched.fitted(subnet, prices.of, limit)

        def draw(step: int) -> list[Subnet]:
            generator = np.random.default_rng((context.seed, step, 5))
            drawn = (searched.random(generator) for _ in range(self._options.subnets))
            return [fitted(one, self._limit) for one in drawn]

        largest, smallest = (fitted(searched.largest, self._limit / part) for part in (1, 2))
        supernet = Supernet(searched, self._feeds, Sandwich(largest, smallest, draw))
        _, history = tuning.fine_tune(
            self._start,
            training,
            context,
            extensions=supernet.attach,
            teacher=self._teacher,
            objective=supernet.objective,
            stage=Stage("supernet", span=(0.0, _TRAINED)),
            renormalise=True,
        )
        return supernet, history

    def _judge(self, supernet: Supernet, training: Training) -> Judge:
        engine = supernet.engine
        return Judge(
            supernet.goal,
            self._split,
            training,
            self._context,
            self._calibration(supernet, _JUDGED),
            Precision(engine.autocast, engine.channels_last),
        )

    def _found(self, searched: Space, prices: Prices, judged: _Judged) -> list[Found]:
        def report(fraction: float, message: str, numbers: Mapping[str, float] = {}, /) -> None:
            self._context.report(_TRAINED + _SEARCHED * fraction, message, numbers)

        search = Search(searched, prices.of, judged, self._limit)
        return list(search.run(self._options, self._context.seed, report))

    def _finals(self, searched: Space, ways: _Ways) -> Finals:
        options = self._options
        short = options.recovery and options.recovery.model_copy(update={"epochs": options.final_epochs})
        return Finals(
            searched,
            self.network,
            ways.shared,
            ways.finals,
            Samples(self._split, options.samples, self._context.threads),
            short if options.finalists > 1 and options.final_epochs else None,
            self._teacher,
            self._context,
            (_TRAINED + _SEARCHED, _PLAYED),
        )

    def _calibration(self, supernet: Supernet, count: int) -> list[Mapping[str, Tensor]]:
        """None where the statistics of the original were kept all along."""
        if supernet.engine.frozen_statistics:
            return []
        return list(islice(tuning.statistics(self._start, self._context), count))


def _unreachable(most: float, options: Options) -> CompressionError:
    ratio = float(np.floor(most * 100) / 100)
    return CompressionError(
        "target_unreachable",
        f"the smallest sub-network saves {most:.0%} of the {options.target}, not {options.ratio:.0%}",
        suggestions=[
            Suggestion(f"Remove {ratio:.0%}", {"ratio": ratio}),
            Suggestion("Allow narrower groups", {"widths": [0.125, 0.25, 0.5, 0.75, 1.0], "round_to": 1}),
        ],
    )
