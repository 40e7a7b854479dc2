"""Which nodes are worth quantizing: measured gains against what crossing to integers and back costs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType

import onnx

from compression.graph import profile, shapes
from compression.graph.index import Index
from compression.graph.qdq import REMOVABLE
from compression.kernels.minimum_cut import cheapest_split
from compression.runtime import Array

LEAST_GAIN = 1.1
"""Integers must be so many times faster than floats with integer weights: the noise they add has to pay."""
CLEAR_GAIN = 1.5
"""Where all layers together gain so much over the original, nothing else is tried."""
TOO_SHORT = 100e-6
"""Seconds. Of a model that runs no longer than this no layer's time can be told from noise: all of them are
quantized, or none.
"""
CROSSING = 0.25e-9
"""Seconds an element costs to round or restore, where the profile holds no such kernel."""
TIED = 1.0
"""Seconds: more than any model gains by separating the two."""
Feeds = Mapping[str, Array]
Write = Callable[[Collection[str]], onnx.ModelProto]


@dataclass(frozen=True)
class Bench:
    """Models under measurement: as uploaded, made ready, and a writer of quantized ones; with one sample to
    run.
    """

    original: onnx.ModelProto
    prepared: onnx.ModelProto
    write: Write
    feeds: Feeds
    scratch: Path

    def seconds(self, model: onnx.ModelProto) -> tuple[float, float]:
        """Of a run of the original, and of that model."""
        return profile.paired_seconds(self.original, model, self.feeds)

    def speed(self, nodes: Collection[str]) -> float:
        before, after = self.seconds(self.write(nodes))
        return before / after


def choose(bench: Bench, nodes: frozenset[str]) -> tuple[frozenset[str], dict[str, float]]:
    """The nodes to quantize, and the measured speed against the original of each candidate: all of `nodes`
    and, unless they gain clearly, none (integer weights only) and the cheapest split by the profiles.
    """
    full = bench.write(nodes)
    before, after = bench.seconds(full)
    candidates, speeds = {"all": nodes}, {"all": before / after}
    if speeds["all"] < CLEAR_GAIN:
        split, share = (frozenset(), 1.0) if before < TOO_SHORT else _split(bench, nodes, full)
        candidates |= {"none": frozenset(), "split": split}
        speeds["none"] = bench.speed(())
        if split and share * LEAST_GAIN < 1:
            speeds["split"] = bench.speed(split)
    best = max(speeds, key=lambda name: speeds[name] * (LEAST_GAIN if name == "none" else 1.0))
    return candidates[best], {name: round(speed, 3) for name, speed in speeds.items()}


def _split(bench: Bench, nodes: frozenset[str], full: onnx.ModelProto) -> tuple[frozenset[str], float]:
    """The cheapest choice by the profiles of both models, and its expected share of the time of quantizing
    all or none, whichever is less.
    """
    priced = prices(bench, nodes, full)
    split = priced.cheapest()
    return split, priced.seconds(split) / max(min(priced.seconds(nodes), priced.seconds(())), 1e-9)


@dataclass(frozen=True)
class Prices:
    """Seconds that each node takes, by its name, and that crossing to integers or back costs on each edge."""

    as_float: Mapping[str, float]
    as_integer: Mapping[str, float]
    """Of nodes that can be quantized."""
    borders: Sequence[tuple[str, str, float]]

    def seconds(self, chosen: Collection[str]) -> float:
        """With these nodes in integers."""
        crossed = sum(price for start, end, price in self.borders if (start in chosen) != (end in chosen))
        return crossed + sum(
            self.as_integer[name] if name in chosen else spent for name, spent in self.as_float.items()
        )

    def cheapest(self, penalties: Mapping[str, float] = MappingProxyType({})) -> frozenset[str]:
        """The nodes to quantize where each so quantized is charged its penalty too: a minimum cut, so none is
        cheaper.
        """
        charged = {
            name: min(self.as_integer[name] + penalties.get(name, 0.0), TIED)
            if name in self.as_integer
            else TIED
            for name in self.as_float
        }
        split = cheapest_split(charged, dict(self.as_float), self.borders)
        return frozenset(split & self.as_integer.keys())


def prices(bench: Bench, nodes: frozenset[str], full: onnx.ModelProto) -> Prices:
    """By the profiles of the network in floats and with all of `nodes` quantized."""
    floats = profile.node_seconds(bench.prepared, bench.feeds, bench.scratch)
    integers = profile.node_seconds(full, bench.feeds, bench.scratch)
    graph = bench.prepared.graph
    known = shapes.infer(bench.prepared, {name: value.shape for name, value in bench.feeds.items()})
    per_element = _crossing_seconds(integers, known)
    return Prices(
        {node.name: floats.get(node.name, 0.0) for node in graph.node},
        {node.name: integers.get(node.name, 0.0) for node in graph.node if node.name in nodes},
        [
            (
                start.name,
                end.name,
                TIED if _fused(start, end, nodes) else per_element * _elements(known, tensor),
            )
            for start, tensor, end in _edges(graph)
        ],
    )


def ties(graph: onnx.GraphProto, nodes: Collection[str]) -> list[tuple[str, str, float]]:
    """The edges that nothing may cross, as borders of `Prices`."""
    return [(start.name, end.name, TIED) for start, _, end in _edges(graph) if _fused(start, end, nodes)]


def _edges(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str, onnx.NodeProto]]:
    index = Index(graph)
    for tensor, readers in index.consumers.items():
        producer = index.producer.get(tensor)
        if producer is not None:
            yield from ((producer, tensor, reader) for reader in readers)


def _fused(start: onnx.NodeProto, end: onnx.NodeProto, nodes: Collection[str]) -> bool:
    """An activation that the range of the layer before it expresses."""
    return end.op_type in REMOVABLE and start.name in nodes and end.name in nodes


def _elements(known: Mapping[str, shapes.Shape], tensor: str) -> int:
    return known[tensor].elements if tensor in known else 0


def _crossing_seconds(integers: Mapping[str, float], known: Mapping[str, shapes.Shape]) -> float:
    """Of one element, the median over the conversions that ran."""
    rates = [
        seconds / known[tensor].elements
        for name, seconds in integers.items()
        for tensor in [name.removesuffix("_QuantizeLinear").removesuffix("_DequantizeLinear")]
        if tensor != name and tensor in known and known[tensor].elements > 1000
    ]
    return median(rates) if rates else CROSSING
