"""Ranges of what quantized nodes read and write, over calibration samples."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx

from compression.graph import bias_correction, qdq, weight_rounding
from compression.graph.calibration import Statistics
from compression.graph.weight_rounding import Rounding
from compression.kernels import ranges
from compression.kernels.ranges import Method, Range

Observe = Callable[[Sequence[str]], Mapping[str, Statistics]]


@dataclass(frozen=True)
class Rule:
    """How a range is found."""

    method: Method | Literal["auto"]
    percentile: float
    """Share of the values inside, per cent."""
    bits: int

    def range(self, seen: Statistics) -> tuple[Method, Range]:
        if self.method == "auto":
            return ranges.by_error(seen.histogram, self.bits, self.percentile)
        return self.method, ranges.METHODS[self.method](seen.histogram, self.bits, self.percentile)


@dataclass(frozen=True)
class Calibrated:
    quantized: frozenset[str]
    """Nodes whose ranges fit a grid."""
    ranges: dict[str, Range]
    methods: dict[str, int]
    """How many tensors each method served."""
    corrected: int
    """Layers whose bias was corrected."""


def calibrate(
    prepared: onnx.ModelProto,
    nodes: Collection[str],
    observe: Observe,
    rule: Rule,
    correct: Mapping[str, Rounding] | None,
) -> Calibrated:
    """Biases are corrected on the way, in place, for the weights' roundings if those are given: the same pass
    gives the means.

    Errors: those of `observe`.
    """
    graph = prepared.graph
    wanted = qdq.activations(graph, nodes)
    read = [] if correct is None else weight_rounding.read(graph)
    statistics = observe(list(dict.fromkeys([*wanted, *read])))
    masked = {name for name in wanted if statistics[name].is_masked}
    quantized = _without(graph, nodes, masked)
    chosen = {name: rule.range(statistics[name]) for name in qdq.activations(graph, quantized)}
    corrected: list[str] = []
    if correct is not None:
        means = {name: seen.mean for name, seen in statistics.items() if seen.mean is not None}
        corrected = bias_correction.correct(graph, correct, means)
    methods: Counter[str] = Counter(method for method, _ in chosen.values())
    found = {name: to for name, (_, to) in chosen.items()}
    return Calibrated(quantized, found, dict(methods), len(corrected))


def _without(graph: onnx.GraphProto, nodes: Collection[str], tensors: Collection[str]) -> frozenset[str]:
    """Those of the nodes that neither read nor write the tensors."""
    touching = {node.name for node in graph.node if not {*node.input, *node.output}.isdisjoint(tensors)}
    return frozenset(nodes) - touching
