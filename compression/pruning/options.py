"""What can be set of channel pruning, and what came of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from compression.pruning.costs import Target
from compression.pruning.criteria import Criterion
from compression.pruning.selection import Kept, Limits
from compression.training.options import Training


@dataclass(frozen=True)
class Options:
    """Those of the technique, which documents them."""

    target: Target
    ratio: float
    criterion: Criterion
    uniform: bool
    limits: Limits
    steps: int
    blocks: bool
    reconstruct: bool
    exclude: Collection[str]
    samples: int
    training: Training | None
    kept: Mapping[str, Sequence[int]] | None
    dropped: Sequence[str]

    @property
    def given(self) -> "Cut | None":
        """A cut that was stated, so that nothing is ranked."""
        if self.kept is None and not self.dropped:
            return None
        return Cut(tuple(self.dropped), {name: sorted(units) for name, units in (self.kept or {}).items()})


@dataclass(frozen=True)
class Cut:
    """Residual blocks that go, and units that stay, numbered as they were before the cut."""

    dropped: tuple[str, ...] = ()
    kept: Kept = field(default_factory=dict)

    def after(self, first: "Cut") -> "Cut":
        """Both in one, for the network before the first."""
        kept = {**first.kept}
        for name, units in self.kept.items():
            before = first.kept.get(name)
            kept[name] = list(units) if before is None else [before[unit] for unit in units]
        return Cut((*first.dropped, *self.dropped), kept)
