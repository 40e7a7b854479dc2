"""Layers computed in int8, one at a time: the kernels that static quantization would use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from compression.dataset import Array
from compression.graph import calibration, order, profile, qdq, weight_rounding
from compression.graph.activation_ranges import Rule
from compression.graph.index import Index
from compression.graph.plan import ANY_RANGE
from compression.graph.weight_rounding import Rounding
from compression.kernels.ranges import Range
from compression.sensitivity.layers import FLOAT, Layer, Saved
from compression.sensitivity.options import Using

RULE = Rule("auto", 99.99, 8)


@dataclass(frozen=True, eq=False)
class Integers:
    """Writes the network with some layers in int8."""

    prepared: onnx.ModelProto
    roundings: Mapping[str, Rounding]
    alone: Mapping[str, frozenset[str]]
    """A layer and the activation that its range expresses, by name of the layer."""
    ranges: Mapping[str, Range]
    seconds: Mapping[str, float]
    """Of nodes in int8."""

    @classmethod
    def of(
        cls, prepared: onnx.ModelProto, layers: Sequence[Layer], feeds: Mapping[str, Array], using: Using
    ) -> "Integers":
        """Errors: CompressionError E_NUMERIC, E_MODEL_RUN."""
        graph = prepared.graph
        index = Index(graph)
        possible = {node.name for node in qdq.quantizable(graph)}
        alone = {one.name: _alone(one, index, possible) for one in layers if one.name in possible}
        wanted = dict.fromkeys(name for nodes in alone.values() for name in qdq.activations(graph, nodes))
        machine = calibration.Machine(using.scratch, using.threads)
        seen = calibration.calibrate(prepared, list(wanted), using.split, using.split.n, machine)
        ranges = {name: RULE.range(one)[1] for name, one in seen.items() if not one.is_masked}
        roundings = weight_rounding.choose(graph, 8, per_channel=True)
        sound = {
            name: nodes
            for name, nodes in alone.items()
            if ranges.keys() >= set(qdq.activations(graph, nodes))
        }
        made = cls(prepared, roundings, sound, ranges, {})
        return cls(prepared, roundings, sound, ranges, made._profile(feeds, using))

    def write(self, layer: str, model: onnx.ModelProto) -> onnx.ModelProto:
        """The network, or a part of it, with one layer in int8."""
        nodes = self.alone[layer]
        ranges = {name: self.ranges[name] for name in qdq.activations(model.graph, nodes)}
        written = qdq.write(model, nodes, ranges, self.roundings, qdq.Scheme())
        order.sort(written.graph)
        return written

    def saved(self, layer: Layer) -> Saved:
        size = layer.weight.size * (FLOAT - 1) - len(layer.rows) * FLOAT
        after = self.seconds.get(layer.name)
        return Saved(size, 0, 0.0 if after is None else layer.seconds - after)

    def _profile(self, feeds: Mapping[str, Array], using: Using) -> dict[str, float]:
        """Of the network with everything in int8; kernels take as long whatever the ranges are."""
        graph = self.prepared.graph
        nodes = {node.name for node in qdq.quantizable(graph)}
        anything = dict.fromkeys(qdq.activations(graph, nodes), ANY_RANGE)
        whole = qdq.write(self.prepared, nodes, anything, self.roundings, qdq.Scheme())
        order.sort(whole.graph)
        return profile.node_seconds(whole, feeds, using.scratch)


def _alone(layer: Layer, index: Index, possible: set[str]) -> frozenset[str]:
    reader = index.only_consumer(layer.node.output[0])
    absorbed = reader is not None and reader.op_type in qdq.REMOVABLE and reader.name in possible
    return frozenset({layer.name, reader.name} if reader is not None and absorbed else {layer.name})
