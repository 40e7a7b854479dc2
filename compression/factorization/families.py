"""Ways to write a layer as a chain: what each keeps of the layer's output at given ranks, and its weights.

What follows a projection of the inputs is the best there is on the samples (reduced-rank regression), not
only the best for the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from compression.kernels import low_rank
from compression.kernels.low_rank import Floats, Truncation

Ranks = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x, as a layer computes it at each position."""

    kernel: Floats
    """W, [outputs, inputs, *window]."""
    moment: Floats
    """E[x x'], [inputs * points, inputs * points], regular."""
    step: int
    """Ranks are multiples of it, or full."""

    @property
    def outputs(self) -> int:
        return len(self.kernel)

    @property
    def inputs(self) -> int:
        return int(self.kernel.shape[1])

    @property
    def window(self) -> tuple[int, ...]:
        return tuple(self.kernel.shape[2:])

    @property
    def points(self) -> int:
        return int(np.prod(self.window))

    @cached_property
    def truncation(self) -> Truncation:
        return low_rank.truncated(self.kernel.reshape(self.outputs, -1), self.moment)

    def ranks(self, most: int) -> list[int]:
        return [*range(self.step, most, self.step), most]

    def pointwise(self, matrix: Floats) -> Floats:
        """As a kernel of a single point."""
        return matrix.reshape(*matrix.shape, *[1] * len(self.window))


class Family(Protocol):
    """Of chains for one layer. Ranks above what makes a difference are lowered to that."""

    def ranks(self) -> Iterator[Ranks]:
        """All there are, told without looking at energies."""

    def lowered(self, ranks: Ranks) -> Ranks: ...

    def kept(self, ranks: Ranks) -> float:
        """Energy of the output."""

    def weights(self, ranks: Ranks) -> list[Floats]:
        """Of each link, [outputs, inputs, *window]; a window is 1 on axes that the link does not take."""


class Svd:
    """Through fewer values. Ranks: one."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear

    def ranks(self) -> Iterator[Ranks]:
        own = self._linear
        yield from ((rank,) for rank in own.ranks(min(own.outputs, own.inputs * own.points)))

    def lowered(self, ranks: Ranks) -> Ranks:
        return (min(ranks[0], len(self._linear.truncation.energies)),)

    def kept(self, ranks: Ranks) -> float:
        return float(self._linear.truncation.energies[: ranks[0]].sum())

    def weights(self, ranks: Ranks) -> list[Floats]:
        own, (rank,) = self._linear, ranks
        first = own.truncation.codes[:rank].reshape(rank, own.inputs, *own.window)
        return [first, own.pointwise(own.truncation.basis[:, :rank])]


class Spatial:
    """A column of the kernel, then a row (Jaderberg et al. 2014, arXiv:1405.3866). Ranks: one."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear
        sizes = (linear.inputs, *linear.window)
        self._moment = linear.moment.reshape(*sizes, *sizes)

    def ranks(self) -> Iterator[Ranks]:
        own, (height, width) = self._linear, self._linear.window
        yield from ((rank,) for rank in own.ranks(min(width * own.outputs, own.inputs * height)))

    def lowered(self, ranks: Ranks) -> Ranks:
        return (min(ranks[0], len(self._columns)),)

    def kept(self, ranks: Ranks) -> float:
        return self._reduced.fit(ranks[0])[1]

    def weights(self, ranks: Ranks) -> list[Floats]:
        (rank,) = ranks
        rows, _ = self._reduced.fit(rank)
        return [self._columns[:rank, :, :, None], rows.reshape(-1, rank, 1, self._linear.window[1])]

    @cached_property
    def _columns(self) -> Floats:
        """[ranks, inputs, height]: what columns can be reduced to, the best first."""
        own, (height, width) = self._linear, self._linear.window
        stacked = own.kernel.transpose(3, 0, 1, 2).reshape(width * own.outputs, -1)
        mean = np.einsum("iawjbw->iajb", self._moment) / width
        codes = low_rank.truncated(stacked, mean.reshape(own.inputs * height, -1)).codes
        return codes.reshape(-1, own.inputs, height)

    @cached_property
    def _reduced(self) -> "_Reduced":
        """[ranks, width]."""
        half = np.einsum("ria,iawjbv->rwjbv", self._columns, self._moment, optimize=True)
        moment = np.einsum("rwjbv,sjb->rwsv", half, self._columns, optimize=True)
        return _Reduced(moment, np.einsum("ojbv,rwjbv->orw", self._linear.kernel, half, optimize=True))


class Tucker:
    """1 x 1 to fewer channels, the kernel on those, and 1 x 1 back (Kim et al. 2015, arXiv:1511.06530).
    Ranks: of the inputs and of the outputs; a full one needs no 1 x 1.
    """

    def __init__(self, linear: Linear) -> None:
        self._linear = linear
        sizes = (linear.inputs, linear.points)
        self._moment = linear.moment.reshape(*sizes, *sizes)
        self._kernel = linear.kernel.reshape(linear.outputs, *sizes)
        self._cores: dict[int, Truncation] = {}

    def ranks(self) -> Iterator[Ranks]:
        own = self._linear
        for narrow in own.ranks(own.inputs):
            yield from ((narrow, wide) for wide in own.ranks(min(own.outputs, narrow * own.points)))

    def lowered(self, ranks: Ranks) -> Ranks:
        narrow, wide = min(ranks[0], self._linear.inputs), min(ranks[1], self._linear.outputs)
        if narrow < self._linear.inputs:
            narrow = min(narrow, len(self._channels))
        return narrow, min(wide, len(self._core(narrow).energies))

    def kept(self, ranks: Ranks) -> float:
        return float(self._core(ranks[0]).energies[: ranks[1]].sum())

    def weights(self, ranks: Ranks) -> list[Floats]:
        own, (narrow, wide) = self._linear, ranks
        core = self._core(narrow)
        codes, basis = core.codes[:wide], core.basis[:, :wide]
        first = [own.pointwise(self._channels[:narrow])] if narrow < own.inputs else []
        if wide == own.outputs:
            return [*first, (basis @ codes).reshape(wide, narrow, *own.window)]
        return [*first, codes.reshape(wide, narrow, *own.window), own.pointwise(basis)]

    @cached_property
    def _channels(self) -> Floats:
        """[ranks, inputs]: what channels can be reduced to, the best first."""
        stacked = np.moveaxis(self._kernel, 1, 2).reshape(-1, self._linear.inputs)
        moment = np.einsum("ipjp->ij", self._moment) / self._linear.points
        return low_rank.truncated(stacked, moment).codes

    @cached_property
    def _reduced(self) -> "_Reduced":
        """[ranks, points]."""
        half = np.einsum("ri,ipjq->rpjq", self._channels, self._moment, optimize=True)
        moment = np.einsum("rpjq,sj->rpsq", half, self._channels, optimize=True)
        return _Reduced(moment, np.einsum("ojq,rpjq->orp", self._kernel, half, optimize=True))

    def _core(self, narrow: int) -> Truncation:
        """Of the map from so many channels, or all of them as they are."""
        if narrow == self._linear.inputs:
            return self._linear.truncation
        if narrow not in self._cores:
            fitted, moment = self._reduced.fit(narrow)[0], self._reduced.moment(narrow)
            self._cores[narrow] = low_rank.truncated(fitted, moment)
        return self._cores[narrow]


class _Reduced:
    """Inputs reduced to some values at some points: their moment [ranks, points, ranks, points], and what
    they have in common with the outputs [outputs, ranks, points].
    """

    def __init__(self, moment: Floats, cross: Floats) -> None:
        self._moment, self._cross = moment, cross

    def moment(self, rank: int) -> Floats:
        """Of the first of them, [rank * points, rank * points]."""
        size = rank * self._moment.shape[1]
        return self._moment[:rank, :, :rank].reshape(size, size)

    def fit(self, rank: int) -> tuple[Floats, float]:
        """The best map from the first of them, [outputs, rank * points], and the energy it keeps."""
        cross = self._cross[:, :rank].reshape(len(self._cross), -1)
        told = low_rank.told(cross, self.moment(rank))
        return told, float(np.sum(told * cross))
