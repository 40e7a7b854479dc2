"""Which layers of a network are rewritten, and how."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.factorization import layers as found
from compression.factorization import observation
from compression.factorization.allocation import Option, allocate
from compression.factorization.chains import Cost, whole
from compression.factorization.layers import Layer
from compression.factorization.observation import Samples, place
from compression.graph import macs, tensors, weights
from compression.graph.channels import recording
from compression.graph.index import Index
from compression.graph.shapes import Shape
from compression.rewriting.correction import correct
from compression.rewriting.forms import Form, cost, dense, fits
from compression.rewriting.options import Options
from compression.rewriting.separation import Floats, Separation, separate
from compression.rewriting.writing import Writer


@dataclass(frozen=True)
class Candidate:
    """A form of a layer that earns its place."""

    form: Form
    error: float
    """Share of the output's energy that is lost, 0-1."""
    cost: Cost


class Network:
    """A model looked through once, with the moments of what its dense convolutions read."""

    def __init__(self, model: onnx.ModelProto, options: Options, samples: Samples) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self.model, self._options, self._samples = model, options, samples
        feeds = next(samples.split.batches(tensors.inputs(model.graph), 1))
        shapes = recording.shapes(model, feeds)
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        known = {name: Shape(kinds.get(name, onnx.TensorProto.FLOAT), dims) for name, dims in shapes.items()}
        self.macs, self.params = macs.count(model.graph.node, known), weights.params(model.graph)
        self._index = Index(model.graph)
        self.layers = {
            layer.weight: layer
            for layer in found.find(model, shapes)
            if dense(layer) and layer.names.isdisjoint(options.exclude)
        }
        self._moments = observation.observe(model, map(place, self.layers.values()), samples)
        self._separations: dict[tuple[str, Form], Separation] = {}

    @cached_property
    def candidates(self) -> Mapping[str, list[Candidate]]:
        """Of layers that have one."""
        return {name: own for name, layer in self.layers.items() if (own := list(self._candidates(layer)))}

    def _candidates(self, layer: Layer) -> Iterator[Candidate]:
        before = whole(layer)
        for form in sorted(self._options.forms):
            after = cost(layer, form)
            earns = after.macs < before.macs and (after.beats(before) or not self._options.faster)
            if earns and self._possible(layer, form):
                yield Candidate(form, self.separated(layer, form).error, after)

    def _possible(self, layer: Layer, form: Form) -> bool:
        return fits(layer, form) and place(layer) in self._moments

    def separated(self, layer: Layer, form: Form) -> Separation:
        key = layer.weight, form
        if key not in self._separations:
            moments = self._moments[place(layer)]
            moment = moments.second if layer.bias is None else moments.covariance
            self._separations[key] = separate(self._weight(layer), moment, form.channels, form.rank)
        return self._separations[key]

    def written(self, chosen: Mapping[str, Form]) -> onnx.ModelProto:
        """Errors: CompressionError `unknown_layer`."""
        writer = Writer(self.model)
        for name, form in chosen.items():
            layer = self.layers.get(name)
            if layer is None or not self._possible(layer, form):
                raise CompressionError("unknown_layer", f"the model has no layer {name!r} to be written so")
            parts = self.separated(layer, form)
            writer.replace(layer, form, parts, self._shift(layer, parts))
        rewritten, mixings = writer.done()
        correct(self.model, rewritten, mixings, self._samples)
        return rewritten

    def _weight(self, layer: Layer) -> Floats:
        return found.kernel(layer, self._index).reshape(layer.outputs, layer.inputs, -1)

    def _shift(self, layer: Layer, parts: Separation) -> Floats:
        """What is lost of the mean of the layer's outputs; nothing where a shift has no place."""
        if layer.bias is None:
            return np.zeros(layer.outputs)
        lost = self._weight(layer) - parts.whole
        return np.asarray(lost.reshape(layer.outputs, -1) @ self._moments[place(layer)].mean)


def chosen(network: Network, options: Options) -> dict[str, Form]:
    """By weight. Errors: CompressionError `nothing_to_rewrite`, `target_unreachable`, `macs_unknown`."""
    if options.given is not None:
        return dict(options.given)
    if not network.candidates:
        raise CompressionError("nothing_to_rewrite", _why(options), ErrorKind.UNSUPPORTED)
    if network.macs is None:
        raise CompressionError(
            "macs_unknown",
            "the multiply-accumulates of this model cannot be told from its graph: name `layers`",
            ErrorKind.UNSUPPORTED,
        )
    saved = {
        name: [Option(whole(network.layers[name]).macs - one.cost.macs, one.error) for one in own]
        for name, own in network.candidates.items()
    }
    picked = allocate(saved, options.ratio * network.macs)
    if picked is None:
        most = sum(max(option.saving for option in own) for own in saved.values()) / network.macs
        raise _unreachable(most, options.ratio)
    return {name: network.candidates[name][at].form for name, at in picked.items()}


def _why(options: Options) -> str:
    reason = "none of the model's convolutions is dense, larger than 1 x 1 and wide enough to save anything"
    return f"{reason} that is expected to run faster for it (`faster`)" if options.faster else reason


def _unreachable(most: float, ratio: float) -> CompressionError:
    reachable = float(np.floor(most * 100) / 100)
    return CompressionError(
        "target_unreachable",
        f"at most {most:.0%} of the multiply-accumulates can go with the dense convolutions, not {ratio:.0%}",
        suggestions=[Suggestion(f"Remove {reachable:.0%}", {"ratio": reachable})],
    )
