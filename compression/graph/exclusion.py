"""Which nodes are worth quantizing: measured gains against the cost of crossing between floats and integers."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from statistics import median

import onnx

from compression.graph import profile, shapes
from compression.graph.index import Index
from compression.kernels.minimum_cut import cheapest_split
from compression.runtime import Array

LEAST_GAIN = 1.1
"""Integers must be so many times faster than floats with integer weights: the noise they add has to pay."""
TOO_SHORT = 100e-6
"""Seconds. Of a model that runs no longer than this no layer's time can be told from noise: none is excluded."""
CROSSING = 0.25e-9
"""Seconds an element costs to round or restore, where the profile holds no such kernel."""
Feeds = Mapping[str, Array]
Write = Callable[[Collection[str]], onnx.ModelProto]


def fastest(
    original: onnx.ModelProto,
    prepared: onnx.ModelProto,
    nodes: set[str],
    write: Write,
    feeds: Feeds,
    scratch: Path,
) -> tuple[frozenset[str], dict[str, float]]:
    """The nodes to quantize, with the milliseconds of a run of each candidate: the original, all of `nodes`, those of
    the cheapest split, and none (integer weights only).
    """
    everything = frozenset(nodes)
    full = write(everything)
    floats = profile.node_seconds(prepared, feeds, scratch)
    if sum(floats.values()) < TOO_SHORT:
        return everything, {}
    integers = profile.node_seconds(full, feeds, scratch)
    split = frozenset(_split(prepared, everything, floats, integers, feeds))
    candidates = {"all": everything, "split": split, "none": frozenset[str]()}
    models = [original, full, write(split), write(())]
    times = profile.interleaved_seconds(models, feeds, budget=1.0)
    measured = dict(zip(("original", *candidates), times, strict=True))
    best = min(candidates, key=lambda name: measured[name] * (LEAST_GAIN if name != "none" else 1.0))
    return candidates[best], {name: round(1e3 * seconds, 3) for name, seconds in measured.items()}


def _split(
    prepared: onnx.ModelProto,
    nodes: frozenset[str],
    floats: Mapping[str, float],
    integers: Mapping[str, float],
    feeds: Feeds,
) -> set[str]:
    """The cheapest choice by the profiles of both models: a minimum cut, with what crossing costs on each edge."""
    graph = prepared.graph
    known = shapes.infer(prepared, {name: value.shape for name, value in feeds.items()})
    per_element = _crossing_seconds(integers, known)
    as_integer = {
        node.name: integers.get(node.name, 0.0) if node.name in nodes else 1.0 for node in graph.node
    }
    as_float = {node.name: floats.get(node.name, 0.0) for node in graph.node}
    borders = [
        (start, end, per_element * known[tensor].elements if tensor in known else 0.0)
        for start, tensor, end in _edges(graph)
    ]
    return cheapest_split(as_integer, as_float, borders) & nodes


def _edges(graph: onnx.GraphProto) -> Iterator[tuple[str, str, str]]:
    index = Index(graph)
    for tensor, readers in index.consumers.items():
        producer = index.producer.get(tensor)
        if producer is not None:
            yield from ((producer.name, tensor, reader.name) for reader in readers)


def _crossing_seconds(integers: Mapping[str, float], known: Mapping[str, shapes.Shape]) -> float:
    """Of one element, the median over the conversions that ran."""
    rates = [
        seconds / known[tensor].elements
        for name, seconds in integers.items()
        for tensor in [name.removesuffix("_QuantizeLinear").removesuffix("_DequantizeLinear")]
        if tensor != name and tensor in known and known[tensor].elements > 1000
    ]
    return median(rates) if rates else CROSSING
