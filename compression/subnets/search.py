"""The search itself: Optuna proposes sub-networks, their loss and their cost are what is minimised."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from compression.pruning.criteria import ABSOLUTE
from compression.subnets.options import Options
from compression.subnets.space import Space, Subnet
from compression.subnets.starts import starts
from compression.technique import Report

SCORE = "validation_loss"
_STARTED = 0.25
"""At most this share of the trials is given."""
_ATTEMPTS = 20


@dataclass(frozen=True)
class Found:
    """A sub-network that was judged."""

    subnet: Subnet
    cost: float
    """As a share of the original's."""
    scores: Mapping[str, float]

    @property
    def loss(self) -> float:
        return self.scores[SCORE]


class Search:
    """`price` is the cost of a sub-network as a share of the whole, `judge` its scores."""

    def __init__(
        self,
        space: Space,
        price: Callable[[Subnet], float],
        judge: Callable[[Subnet], Mapping[str, float]],
        limit: float,
    ) -> None:
        self._space, self._price, self._judge, self._limit = space, price, judge, limit
        self._found: dict[Subnet, Found] = {}

    def run(self, options: Options, seed: int, report: Report) -> Sequence[Found]:
        """All that was judged, each once: every one costs at most the limit.

        Repeats for the same seed, as far as prices do.
        """
        absolute = options.criterion in ABSOLUTE
        given = starts(self._space, self._price, self._limit, absolute=absolute)
        given = given[: max(1, int(options.trials * _STARTED))]
        trials = self._climbed if options.sampler == "local" else self._sampled
        for number, found in enumerate(trials(given, options, seed)):
            numbers = {"trial": number + 1, "trials": options.trials, **found.scores}
            report(number / options.trials, f"searching: trial {number + 1} of {options.trials}", numbers)
        return list(self._found.values())

    def _climbed(self, given: Sequence[Subnet], options: Options, seed: int) -> Iterator[Found]:
        """Neighbours of the best so far."""
        generator = np.random.default_rng((seed, 6))
        for number in range(options.trials):
            if number < len(given):
                yield self._tried(given[number])
                continue
            best = min(self._found.values(), key=lambda one: one.loss)
            yield self._tried(self._untried(best.subnet, generator))

    def _untried(self, best: Subnet, generator: np.random.Generator) -> Subnet:
        """A neighbour that is new, unless that takes too long to come upon."""
        tried = best
        for _ in range(_ATTEMPTS):
            tried = self._space.neighbour(best, self._price, self._limit, generator)
            if tried not in self._found:
                break
        return tried

    def _sampled(self, given: Sequence[Subnet], options: Options, seed: int) -> Iterator[Found]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=_sampler(options, seed))
        for start in given:
            study.enqueue_trial(self._parameters(start), skip_if_exists=True)
        for _ in range(options.trials):
            trial = study.ask()
            found = self._tried(self._proposed(trial))
            study.tell(trial, [found.loss, found.cost])
            yield found

    def _proposed(self, trial: optuna.Trial) -> Subnet:
        widths = tuple(
            trial.suggest_int(f"width of {name}", 0, len(counts) - 1)
            for name, counts in self._space.widths.items()
        )
        dropped = (
            name
            for name in self._space.blocks
            if not trial.suggest_categorical(f"block {name}", [True, False])
        )
        return Subnet(widths, tuple(dropped))

    def _tried(self, proposed: Subnet) -> Found:
        """What is beyond the limit is narrowed: each trial is of a sub-network that would do."""
        subnet = self._space.fitted(proposed, self._price, self._limit)
        if subnet not in self._found:
            self._found[subnet] = Found(subnet, self._price(subnet), self._judge(subnet))
        return self._found[subnet]

    def _parameters(self, subnet: Subnet) -> dict[str, Any]:
        widths = zip(self._space.widths, subnet.widths, strict=True)
        return {f"width of {name}": at for name, at in widths} | {
            f"block {name}": name not in subnet.dropped for name in self._space.blocks
        }


def _sampler(options: Options, seed: int) -> BaseSampler:
    if options.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=options.population)
    return NSGAIISampler(population_size=options.population, seed=seed)
