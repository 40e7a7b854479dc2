"""Finals: the best sub-networks are cut out and trained a little, as shared weights rank only roughly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from compression.model import Model
from compression.pruning.reconstruction import Activations, Samples, reconstructed
from compression.subnets.network import Network
from compression.subnets.search import SCORE, Found
from compression.subnets.space import Space, Subnet
from compression.technique import Context
from compression.training import tuning
from compression.training.extension import Stage
from compression.training.options import Training

Start = Literal["shared", "original"]
"""Where weights come from: the supernet's, or the original's, corrected by least squares for what is cut."""


class Finalist(NamedTuple):
    found: Found
    model: Model
    start: Start
    scores: Mapping[str, float]
    """After its training."""


@dataclass(frozen=True)
class Finals:
    space: Space
    original: Network
    shared: Callable[[Subnet], Model] | None
    """A sub-network with the supernet's weights; None: there is no supernet."""
    judge: Callable[[Model], Mapping[str, float]]
    samples: Samples
    training: Training | None
    """Of each; None: they are compared as they are."""
    teacher: Model
    context: Context
    span: tuple[float, float]
    """Where in the step's progress they begin, and their share of it."""

    def played(self, finalists: Sequence[Found]) -> list[Finalist]:
        """The best first. Errors: those of training."""
        begin, share = self.span[0], self.span[1] / len(finalists)
        played = [self._trained(found, (begin + share * at, share)) for at, found in enumerate(finalists)]
        return sorted(played, key=lambda one: one.scores[SCORE])

    def _trained(self, found: Found, span: tuple[float, float]) -> Finalist:
        starts: dict[Start, Model] = {} if self.shared is None else {"shared": self.shared(found.subnet)}
        starts["original"] = corrected(self.space, self.original, found.subnet, self.samples)
        scores = {start: self.judge(model) for start, model in starts.items()}
        start = min(scores, key=lambda one: scores[one][SCORE])
        if self.training is None:
            return Finalist(found, starts[start], start, scores[start])
        model, _ = tuning.fine_tune(
            starts[start],
            self.training,
            replace(self.context, resume=None, checkpoint=None),  # the supernet's checkpoint stays
            teacher=self.teacher,
            stage=Stage("final", span=span),
            renormalise=True,
        )
        return Finalist(found, model, start, self.judge(model))


def corrected(
    space: Space, network: Network, subnet: Subnet, samples: Samples, known: Activations | None = None
) -> Model:
    """A sub-network with a network's weights, corrected by least squares; as they are where a group goes by
    another name once the blocks are out. `known`: activations of the network with all blocks.
    """
    kept = network.told(space.kept(subnet), subnet.dropped)
    left = Network(Model(network.carved({}, subnet.dropped)), network.feeds) if subnet.dropped else network
    if not set(kept) <= set(left.groups):
        return Model(network.carved(space.kept(subnet), subnet.dropped))
    return Model(reconstructed(left.looked, kept, samples, None if subnet.dropped else known))


def told(finalists: Sequence[Finalist]) -> list[dict[str, Any]]:
    """JSON."""
    return [{"cost": one.found.cost, "start": one.start, **one.scores} for one in finalists]
