"""The forms that a layer can take, what each loses of its output, and the weights of each.

svd: through fewer values, as two layers. spatial: a column of the kernel, then a row (Jaderberg et al. 2014,
arXiv:1405.3866). tucker: 1 x 1 to fewer channels, the kernel on those, and 1 x 1 back (Kim et al. 2015,
arXiv:1511.06530). In all of them what follows a projection of the inputs is the best there is on the samples
(reduced-rank regression), not only the best for the weights.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compression.factorization.chains import Form, Method
from compression.kernels import low_rank
from compression.kernels.low_rank import Floats, Truncation
from compression.kernels.redundancy import regularised

Wanted = Callable[[Form], bool]
"""Of forms whose loss is worth the work of telling it."""


@dataclass(frozen=True)
class Loss:
    form: Form
    error: float
    """Share of the output's energy that is lost, 0-1, as it matters."""


class Forms:
    """Of one layer: `kernel` [outputs, inputs, *window], `moment` of what a position sees, [inputs * points,
    inputs * points]; ranks are multiples of `step`, or full. `matters` [outputs], above 0, is what an error's
    energy counts in each output; None: the same in all.
    """

    def __init__(self, kernel: Floats, moment: Floats, step: int, matters: Floats | None = None) -> None:
        self._outputs, self._inputs, *self._window = kernel.shape
        self._step = step
        self._scale = _along(np.ones(self._outputs) if matters is None else np.sqrt(matters), kernel.ndim)
        self._kernel = kernel * self._scale
        self._points = int(np.prod(self._window))
        self._moment = regularised(moment)
        self._flat = self._kernel.reshape(self._outputs, -1)
        self.energy = max(low_rank.energy(self._flat, self._moment), float(np.finfo(np.float64).tiny))

        """Of the outputs, as it matters: what an error of 1 counts."""

    @property
    def methods(self) -> tuple[Method, ...]:
        if self._points == 1:
            return ("svd",)
        plane = len(self._window) == 2 and min(self._window) > 1
        return ("spatial", "tucker") if plane else ("tucker",)

    def losses(self, methods: Collection[Method], wanted: Wanted = lambda _form: True) -> Iterator[Loss]:
        """Of the wanted forms by these methods. None has more ranks than make a difference."""
        own = {"svd": self._svd, "spatial": self._spatial, "tucker": self._tucker}
        for method in self.methods:
            if method in methods:
                yield from own[method](wanted)

    def weights(self, form: Form) -> list[Floats]:
        """Of each link, [outputs, inputs, *window]; a link's window is 1 on axes that it does not take."""
        match form.method:
            case "svd":
                parts = self._svd_weights(*form.ranks)
            case "spatial":
                parts = self._spatial_weights(*form.ranks)
            case "tucker":
                parts = self._tucker_weights(*form.ranks)
        return [*parts[:-1], parts[-1] / self._scale]

    def _lost(self, kept: float) -> float:
        return float(np.clip(1 - kept / self.energy, 0, 1))

    def _ranks(self, most: int) -> list[int]:
        return [*range(self._step, most, self._step), most]

    def _pointwise(self, matrix: Floats) -> Floats:
        return matrix.reshape(*matrix.shape, *[1] * len(self._window))

    @cached_property
    def _whole(self) -> Truncation:
        return low_rank.truncated(self._flat, self._moment)

    def _svd(self, wanted: Wanted) -> Iterator[Loss]:
        kept = np.cumsum(self._whole.energies)
        for form in (Form("svd", (rank,)) for rank in self._ranks(len(kept))):
            if wanted(form):
                yield Loss(form, self._lost(float(kept[form.ranks[0] - 1])))

    def _svd_weights(self, rank: int) -> list[Floats]:
        first = self._whole.codes[:rank].reshape(rank, self._inputs, *self._window)
        return [first, self._pointwise(self._whole.basis[:, :rank])]

    @cached_property
    def _columns(self) -> Floats:
        """[ranks, inputs, height]: what the columns of the window can be reduced to, the best first."""
        height, width = self._window
        stacked = self._kernel.transpose(3, 0, 1, 2).reshape(width * self._outputs, -1)
        sizes = (self._inputs, height, width)
        mean = np.einsum("iawjbw->iajb", self._moment.reshape(*sizes, *sizes)) / width
        moment = mean.reshape(self._inputs * height, -1)
        return low_rank.truncated(stacked, moment).codes.reshape(-1, self._inputs, height)

    @cached_property
    def _by_columns(self) -> "_Reduced":
        """[ranks, width]."""
        sizes = (self._inputs, *self._window)
        tensor = self._moment.reshape(*sizes, *sizes)
        half = np.einsum("ria,iawjbv->rwjbv", self._columns, tensor, optimize=True)
        moment = np.einsum("rwjbv,sjb->rwsv", half, self._columns, optimize=True)
        return _Reduced(moment, np.einsum("ojbv,rwjbv->orw", self._kernel, half, optimize=True))

    def _spatial(self, wanted: Wanted) -> Iterator[Loss]:
        for form in (Form("spatial", (rank,)) for rank in self._ranks(len(self._columns))):
            if wanted(form):
                yield Loss(form, self._lost(self._by_columns.fit(form.ranks[0])[1]))

    def _spatial_weights(self, rank: int) -> list[Floats]:
        rows, _ = self._by_columns.fit(rank)
        return [self._columns[:rank, :, :, None], rows.reshape(self._outputs, rank, 1, -1)]

    @cached_property
    def _channels(self) -> Floats:
        """[ranks, inputs]: what the channels can be reduced to, the best first."""
        stacked = np.moveaxis(self._kernel.reshape(self._outputs, self._inputs, -1), 1, 2)
        moment = np.einsum("ipjp->ij", self._by_point()) / self._points
        return low_rank.truncated(stacked.reshape(-1, self._inputs), moment).codes

    @cached_property
    def _by_channels(self) -> "_Reduced":
        """[ranks, points]."""
        half = np.einsum("ri,ipjq->rpjq", self._channels, self._by_point(), optimize=True)
        moment = np.einsum("rpjq,sj->rpsq", half, self._channels, optimize=True)
        kernel = self._kernel.reshape(self._outputs, self._inputs, -1)
        return _Reduced(moment, np.einsum("ojq,rpjq->orp", kernel, half, optimize=True))

    def _by_point(self) -> Floats:
        sizes = (self._inputs, self._points)
        return self._moment.reshape(*sizes, *sizes)

    def _tucker(self, wanted: Wanted) -> Iterator[Loss]:
        fewer = range(self._step, min(self._inputs, len(self._channels) + 1), self._step)
        for narrow in (*fewer, self._inputs):
            wides = self._ranks(min(self._outputs, narrow * self._points))
            wides = [wide for wide in wides if wanted(Form("tucker", (narrow, wide)))]
            kept = np.cumsum(self._core(narrow).energies) if wides else np.zeros(0)
            for wide in dict.fromkeys(min(wide, len(kept)) for wide in wides):
                yield Loss(Form("tucker", (narrow, wide)), self._lost(float(kept[wide - 1])))

    def _core(self, narrow: int) -> Truncation:
        """Of the map from so many channels, or all of them as they are."""
        if narrow == self._inputs:
            return self._whole
        return low_rank.truncated(self._by_channels.fit(narrow)[0], self._by_channels.moment(narrow))

    def _tucker_weights(self, narrow: int, wide: int) -> list[Floats]:
        core = self._core(narrow)
        codes, basis = core.codes[:wide], core.basis[:, :wide]
        first = [self._pointwise(self._channels[:narrow])] if narrow < self._inputs else []
        if wide == self._outputs:
            return [*first, (basis @ codes).reshape(wide, narrow, *self._window)]
        return [*first, codes.reshape(wide, narrow, *self._window), self._pointwise(basis)]


def _along(values: Floats, rank: int) -> Floats:
    """For the first axis of so many."""
    return values.reshape(-1, *[1] * (rank - 1))


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


def mean_output(parts: Sequence[Floats], mean: Floats) -> Floats:
    """What a chain gives, [outputs], where a position sees `mean` [inputs, *window]."""
    for part in parts:
        taken = [axis for axis in range(1, mean.ndim) if part.shape[axis + 1] > 1]
        single = tuple(axis + 1 for axis in range(1, mean.ndim) if axis not in taken)
        summed = [0, *taken], [1, *range(2, 2 + len(taken))]
        mean = np.expand_dims(np.tensordot(part.squeeze(single), mean, summed[::-1]), taken)
    return mean.reshape(-1)
