"""Latency of sub-networks, predicted from a table of their segments that is measured on this machine."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import onnx
from onnx import shape_inference

from compression.graph import profile, shapes
from compression.graph.shapes import Shape, Shapes
from compression.model import Model
from compression.pruning.costs import Costs
from compression.subnets.network import Network
from compression.subnets.segments import Segment, bench, segments
from compression.subnets.space import Space, Subnet

_REMEMBERED = 1 << 16
_RUNS = 15


class Table:
    """Seconds of one run of each segment on one thread, by what it computes. What is not there yet is
    measured when it is asked for: all that a network lacks side by side in one session.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._known: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._known)

    def seconds(self, model: onnx.ModelProto, known: Shapes) -> tuple[float, int]:
        """The sum over the segments of a network, and how many there are. Errors: CompressionError
        E_MODEL_RUN.
        """
        every = [(segment.key(known), segment) for segment in segments(model.graph, known)]
        lacking = {key: segment for key, segment in every if key not in self._known}
        if lacking:
            self._measure(model, lacking, known)
        return sum(self._known[key] for key, _ in every), len(every)

    def _measure(self, model: onnx.ModelProto, lacking: Mapping[bytes, Segment], known: Shapes) -> None:
        made = bench(model, lacking.values(), known)
        spent = profile.node_seconds(
            made.model, made.feeds, self._scratch, runs=_RUNS, statistic=min
        )  # the fastest: whoever else is at work here does not count
        for key, names in zip(lacking, made.names, strict=True):
            self._known[key] = sum(spent.get(name, 0.0) for name in names)


class Latency:
    """Of the sub-networks of a network, as a share of its own.

    Kernels are not all: each costs a little for being called, and layouts change between them. How much, for
    each segment alike, is told from the smallest sub-network, which is measured as a whole.
    """

    def __init__(self, network: Network, space: Space, scratch: Path) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self._network, self._space = network, space
        self._types = _types(network.looked.model)
        self._costs = Costs("latency", network.looked, network.feeds, scratch)
        self.table = Table(scratch)
        self._whole = self._seconds(space.largest)
        self._overhead = self._told(self.measured(space.smallest))
        self.of = lru_cache(_REMEMBERED)(self._predicted)

    def _predicted(self, subnet: Subnet) -> float:
        """Errors: CompressionError E_MODEL_RUN."""
        (own, count), (whole, most) = self._seconds(subnet), self._whole
        return (own + self._overhead * count) / (whole + self._overhead * most)

    def measured(self, subnet: Subnet) -> float:
        """Of the network itself, in turns with the whole. Errors: CompressionError E_MODEL_RUN."""
        carved = Model(self._network.carved(self._space.kept(subnet), subnet.dropped))
        return self._costs.of(Network(carved, self._network.feeds).looked, {})

    def _told(self, share: float) -> float:
        """Seconds a segment with which the smallest sub-network takes this share of the whole's time."""
        (own, count), (whole, most) = self._seconds(self._space.smallest), self._whole
        missing = share * whole - own
        return max(missing, 0.0) / (count - share * most) if count > share * most else 0.0

    def _seconds(self, subnet: Subnet) -> tuple[float, int]:
        kept = self._space.kept(subnet)
        sizes = self._network.sizes(kept)
        known = {name: Shape(self._types.get(name, 0), size) for name, size in sizes.items()}
        return self.table.seconds(self._network.carved(kept, subnet.dropped), known)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Of elements, by tensor."""
    graph = shape_inference.infer_shapes(shapes.skeleton(model)).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}
