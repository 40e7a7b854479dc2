"""How fast a network is with some of its nodes in integers: measured, or told where it cannot be."""

from collections.abc import Collection
from functools import cached_property

import onnx

from compression import mapped
from compression.graph import exclusion, macs, placement, qdq, shapes, weight_rounding
from compression.graph.exclusion import TOO_SHORT, Bench, Prices
from compression.graph.plan import Writer
from compression.graph.preparation import prepare
from compression.model import Model
from compression.sensitivity.options import Using

SECONDS_PER_MAC, SECONDS_PER_NODE = 1e-10, 1e-7
"""Of models that are too short, or too large, to be profiled: layers then count by their work alone."""


class Pace:
    """Of a model, on one thread and one sample, as a factor of the original's speed."""

    def __init__(self, model: Model, layers: Collection[str], exclude: Collection[str], using: Using) -> None:
        """`layers` can compute in integers, and no node that is, or makes, what is excluded.

        Errors: CompressionError E_MODEL_RUN.
        """
        original = model.outline.graph.node
        self._names = {name for node in original for name in node.output}
        self.graph = (prepared := prepare(model.proto, using.scratch)).graph
        self.nodes = _placed(prepared.graph, layers, exclude)
        self.is_large = mapped.size(prepared) >= mapped.LARGE
        roundings = weight_rounding.choose(prepared.graph, qdq.EIGHT, per_channel=True)
        write = Writer(prepared, roundings, qdq.Scheme(), ()).uncalibrated
        feeds = next(using.split.batches(model.inputs, 1))
        self._bench = Bench(model.proto, prepared, write, feeds, using.scratch)
        self._known: dict[frozenset[str], float] = {}

    @cached_property
    def is_short(self) -> bool:
        """So that the clock cannot tell layers, or small gains, from noise."""
        return self._bench.seconds(self._bench.original)[0] < TOO_SHORT

    def speed(self, nodes: frozenset[str]) -> float:
        """With these in integers, the others in floats from integer weights."""
        if nodes not in self._known:
            self._known[nodes] = self._bench.speed(nodes)
        return self._known[nodes]

    def of(self, model: onnx.ModelProto) -> float:
        before, after = self._bench.seconds(model)
        return before / after

    @cached_property
    def prices(self) -> Prices:
        if self.is_large or self.is_short:
            return self._by_work()
        return exclusion.prices(self._bench, self.nodes, self._bench.write(self.nodes))

    def kept_float(self, nodes: Collection[str]) -> list[str]:
        """Outputs of nodes that could compute in integers and do not, of those that the original has."""
        floats = (node for node in qdq.quantizable(self.graph) if node.name not in nodes)
        return [node.output[0] for node in floats if node.output[0] in self._names]

    def _by_work(self) -> Prices:
        feeds = self._bench.feeds
        known = shapes.infer(self._bench.prepared, {name: value.shape for name, value in feeds.items()})
        floats = {
            node.name: SECONDS_PER_NODE + (macs.count([node], known) or 0) * SECONDS_PER_MAC
            for node in self.graph.node
        }
        return Prices(floats, dict.fromkeys(self.nodes, 0.0), exclusion.ties(self.graph, self.nodes))


def _placed(graph: onnx.GraphProto, layers: Collection[str], exclude: Collection[str]) -> frozenset[str]:
    nodes = [
        node
        for node in qdq.quantizable(graph)
        if (node.op_type not in qdq.WEIGHTED or node.name in layers)
        and not {node.name, *node.output} & set(exclude)
    ]
    return placement.worth_rounding(graph, nodes)
