"""Which layers of a network are factorised, and how."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.factorization import layers as found
from compression.factorization import observation
from compression.factorization.allocation import Option, allocate
from compression.factorization.chains import Cost, Form, cost, links, whole
from compression.factorization.forms import Forms, Loss, mean_output
from compression.factorization.layers import Layer
from compression.factorization.observation import Samples, place
from compression.factorization.options import Options, Target
from compression.factorization.sensitivity import sensitivities
from compression.factorization.writing import Writer
from compression.graph import macs, tensors, weights
from compression.graph.channels import recording
from compression.graph.index import Index
from compression.graph.shapes import Shape
from compression.kernels.low_rank import Floats
from compression.model import Model


@dataclass(frozen=True)
class Candidate:
    """A form of a layer that saves multiply-accumulates."""

    form: Form
    error: float
    """Share of the layer's output energy that is lost, 0-1."""
    loss: float
    """What that does to the network: the share of its outputs' energy that becomes noise, if they are what
    matters; else the error.
    """
    cost: Cost


class Network:
    """A model looked through once, with the moments of what its layers read."""

    def __init__(self, model: onnx.ModelProto, options: Options, samples: Samples) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self.model, self._options = model, options
        feeds = next(samples.split.batches(tensors.inputs(model.graph), 1))
        shapes = recording.shapes(model, feeds)
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        known = {name: Shape(kinds.get(name, onnx.TensorProto.FLOAT), dims) for name, dims in shapes.items()}
        self.macs, self.params = macs.count(model.graph.node, known), weights.params(model.graph)
        self._index = Index(model.graph)
        self.layers = {
            layer.weight: layer
            for layer in found.find(model, shapes)
            if layer.names.isdisjoint(options.exclude)
        }
        self._moments = observation.observe(model, map(place, self.layers.values()), samples)
        self._matters: Mapping[str, Floats] = {}
        if options.criterion == "outputs" and self.layers:
            every = list(self.layers.values())
            self._matters = sensitivities(Model(model), every, samples)

    def total(self, target: Target) -> int:
        """Of the whole network. Errors: CompressionError `macs_unknown`."""
        if target == "params":
            return self.params
        if self.macs is None:
            raise CompressionError(
                "macs_unknown",
                "the multiply-accumulates of this model cannot be told from its graph",
                ErrorKind.UNSUPPORTED,
                suggestions=[Suggestion("Factorise by parameters", {"target": "params"})],
            )
        return self.macs

    def forms(self, layer: Layer) -> Forms | None:
        """None where too much would have to be looked at."""
        moments = self._moments.get(place(layer))
        if moments is None:
            return None
        moment = moments.second if layer.bias is None else moments.covariance
        kernel, matters = found.kernel(layer, self._index), self._matters.get(layer.weight)
        return Forms(kernel, moment, self._options.round_to, matters)

    @property
    def skipped(self) -> list[str]:
        """Weights of layers that read too many values at once to be looked at."""
        return [name for name, layer in self.layers.items() if place(layer).values > observation.WIDEST]

    @cached_property
    def candidates(self) -> Mapping[str, Sequence[Candidate]]:
        return {name: own for name, layer in self.layers.items() if (own := list(self._candidates(layer)))}

    def _candidates(self, layer: Layer) -> Iterator[Candidate]:
        before = whole(layer)

        def wanted(form: Form) -> bool:
            after = cost(layer, links(layer, form))
            return after.macs < before.macs and (after.beats(before) or not self._options.faster)

        forms = self.forms(layer)
        if forms is not None:
            for loss in forms.losses(self._options.methods, wanted):
                yield self._candidate(layer, forms, loss)

    def _candidate(self, layer: Layer, forms: Forms, loss: Loss) -> Candidate:
        counts = forms.energy if self._matters else 1.0
        return Candidate(loss.form, loss.error, loss.error * counts, cost(layer, links(layer, loss.form)))

    def given(self, name: str, form: Form) -> Candidate:
        """A form that was stated. Errors: CompressionError `unknown_layer`, `unfit_form`."""
        layer = self.layers.get(name)
        forms = self.forms(layer) if layer is not None else None
        if layer is None or forms is None:
            raise CompressionError("unknown_layer", f"the model has no layer {name!r} to be factorised")
        if form.method not in forms.families:
            raise CompressionError(
                "unfit_form",
                f"layer {name!r} cannot be factorised by {form.method}, but by {' or '.join(forms.families)}",
            )
        return self._candidate(layer, forms, forms.loss(forms.lowered(form)))

    def written(self, chosen: Mapping[str, Form]) -> onnx.ModelProto:
        """With forms of candidates."""
        writer = Writer(self.model)
        for name, form in chosen.items():
            layer = self.layers[name]
            forms = self.forms(layer)
            assert forms is not None  # noqa: S101  a candidate has some
            parts = forms.weights(form)
            writer.replace(layer, links(layer, form), parts, self._shift(layer, parts))
        return writer.done()

    def _shift(self, layer: Layer, parts: Sequence[Floats]) -> Floats:
        """What the chain loses of the mean of the layer's outputs; nothing where a shift has no place."""
        if layer.bias is None:
            return np.zeros(layer.outputs)
        own = found.kernel(layer, self._index)
        mean = self._moments[place(layer)].mean.reshape(own.shape[1:])
        return own.reshape(layer.outputs, -1) @ mean.reshape(-1) - mean_output(parts, mean)


def chosen(network: Network, options: Options) -> dict[str, Candidate]:
    """By weight. Errors: CompressionError `nothing_to_factorize`, `target_unreachable`, `macs_unknown`,
    `unknown_layer`, `unfit_form`.
    """
    if options.forms is not None:
        return {name: network.given(name, form) for name, form in options.forms.items()}
    if not network.candidates:
        raise CompressionError("nothing_to_factorize", _why(options), ErrorKind.UNSUPPORTED)
    if options.energy is not None:
        return _by_energy(network, 1 - options.energy, options.target)
    return _by_budget(network, options.ratio, options.target)


def _by_energy(network: Network, most: float, target: Target) -> dict[str, Candidate]:
    """The cheapest form of each layer that loses no more."""
    forms = {}
    for name, candidates in network.candidates.items():
        fit = [one for one in candidates if one.error <= most]
        if fit:
            forms[name] = min(fit, key=lambda one: (_of(one.cost, target), one.loss))
    if not forms:
        raise CompressionError(
            "nothing_to_factorize",
            f"no layer gets cheaper at ranks that keep {1 - most:.4g} of its output's energy",
            suggestions=[Suggestion("Keep less of it", {"energy": (1 - most) ** 4})],
        )
    return forms


def _by_budget(network: Network, ratio: float, target: Target) -> dict[str, Candidate]:
    total = network.total(target)
    options = {
        name: [
            Option(_of(whole(network.layers[name]), target) - _of(one.cost, target), one.loss) for one in own
        ]
        for name, own in network.candidates.items()
    }
    picked = allocate(options, ratio * total)
    if picked is None:
        most = sum(max(option.saving for option in own) for own in options.values()) / total
        raise _unreachable(most, ratio, target)
    return {name: network.candidates[name][at] for name, at in picked.items()}


def _of(cost: Cost, target: Target) -> int:
    return cost.macs if target == "macs" else cost.params


def _why(options: Options) -> str:
    reason = "none of the model's layers has a form of lower rank that saves multiply-accumulates"
    return f"{reason} and is expected to run faster (`faster`)" if options.faster else reason


def _unreachable(most: float, ratio: float, target: Target) -> CompressionError:
    reachable = float(np.floor(most * 100) / 100)
    return CompressionError(
        "target_unreachable",
        f"at most {most:.0%} of the {target} can go in layers that get faster by it, not {ratio:.0%}",
        suggestions=[
            Suggestion(f"Remove {reachable:.0%}", {"ratio": reachable}),
            Suggestion("Allow smaller ranks and slower layers", {"round_to": 4, "faster": False}),
        ],
    )
