"""Finals: the best sub-networks are cut out and trained a little, as shared weights rank only roughly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from compression.model import Model
from compression.pruning.reconstruction import Samples, reconstructed
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
    shared: Callable[[Subnet], Model]
    """A sub-network with the supernet's weights."""
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
        starts: dict[Start, Model] = {"shared": self.shared(found.subnet)}
        corrected = self._corrected(found.subnet)
        starts |= {} if corrected is None else {"original": corrected}
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

    def _corrected(self, subnet: Subnet) -> Model | None:
        """None where a group goes by another name once the blocks are out."""
        kept = self.original.told(self.space.kept(subnet), subnet.dropped)
        left = Network(Model(self.original.carved({}, subnet.dropped)), self.original.feeds)
        if not set(kept) <= set(left.groups):
            return None
        return Model(reconstructed(left.looked, kept, self.samples))


def told(finalists: Sequence[Finalist]) -> list[dict[str, Any]]:
    """JSON."""
    return [{"cost": one.found.cost, "start": one.start, **one.scores} for one in finalists]
