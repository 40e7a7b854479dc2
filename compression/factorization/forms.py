"""The forms that a layer can take, and what each loses of the layer's output."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compression.factorization.chains import Form, Method
from compression.factorization.families import Family, Linear, Spatial, Svd, Tucker
from compression.kernels import low_rank
from compression.kernels.low_rank import Floats
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
        scale = np.ones(len(kernel)) if matters is None else np.sqrt(matters)
        self._scale = scale.reshape(-1, *[1] * (kernel.ndim - 1))
        self._linear = Linear(kernel * self._scale, regularised(moment), step)

    @cached_property
    def energy(self) -> float:
        """Of the outputs, as it matters: what an error of 1 counts."""
        flat = self._linear.kernel.reshape(self._linear.outputs, -1)
        return max(low_rank.energy(flat, self._linear.moment), float(np.finfo(np.float64).tiny))

    @cached_property
    def families(self) -> Mapping[Method, Family]:
        """Those that fit the layer's window."""
        if self._linear.points == 1:
            return {"svd": Svd(self._linear)}
        window = self._linear.window
        if len(window) == 2 and min(window) > 1:
            return {"spatial": Spatial(self._linear), "tucker": Tucker(self._linear)}
        return {"tucker": Tucker(self._linear)}

    def losses(self, methods: Collection[Method], wanted: Wanted = lambda _form: True) -> Iterator[Loss]:
        """Of the wanted forms by these methods, each once."""
        told = set()
        for method, family in self.families.items():
            for form in (Form(method, ranks) for ranks in family.ranks() if method in methods):
                if wanted(form) and (lowered := self.lowered(form)) not in told:
                    told.add(lowered)
                    yield self.loss(lowered)

    def lowered(self, form: Form) -> Form:
        """With no more ranks than make a difference."""
        return Form(form.method, self.families[form.method].lowered(form.ranks))

    def loss(self, form: Form) -> Loss:
        kept = self.families[form.method].kept(form.ranks)
        return Loss(form, float(np.clip(1 - kept / self.energy, 0, 1)))

    def weights(self, form: Form) -> list[Floats]:
        """Of each link, [outputs, inputs, *window]; a link's window is 1 on axes that it does not take."""
        *first, last = self.families[form.method].weights(form.ranks)
        return [*first, last / self._scale]


def mean_output(parts: Sequence[Floats], mean: Floats) -> Floats:
    """What a chain gives, [outputs], where a position sees `mean` [inputs, *window]."""
    for part in parts:
        taken = [axis for axis in range(1, mean.ndim) if part.shape[axis + 1] > 1]
        single = tuple(axis + 1 for axis in range(1, mean.ndim) if axis not in taken)
        summed = [1, *range(2, 2 + len(taken))], [0, *taken]
        mean = np.expand_dims(np.tensordot(part.squeeze(single), mean, summed), taken)
    return mean.reshape(-1)
