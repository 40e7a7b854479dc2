"""All that was decided of a model's quantization, and the file that comes of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from compression.graph import (
    embeddings,
    equalization,
    fake_quantization,
    order,
    packing,
    precision,
    qdq,
    storage,
)
from compression.graph.weight_rounding import Rounding
from compression.kernels.ranges import Range

ANY_RANGE = Range(-4.0, 4.0)


@dataclass(frozen=True)
class Writer:
    """Writes the model with any choice of quantized nodes; layers that stay float keep integer weights."""

    prepared: onnx.ModelProto
    roundings: Mapping[str, Rounding]
    scheme: qdq.Scheme
    tables: Collection[str]
    halves: Collection[str] = ()

    def __call__(self, nodes: Collection[str], ranges_: Mapping[str, Range]) -> onnx.ModelProto:
        written = qdq.write(self.prepared, nodes, ranges_, self.roundings, self.scheme)
        storage.store(written.graph, self.roundings)
        packing.pack(written.graph, min((how.bits for how in self.roundings.values()), default=8))
        embeddings.store(written.graph, self.tables)
        precision.store_halves(written.graph, self.halves)
        written.graph.ClearField("value_info")
        order.sort(written.graph)
        return written

    def uncalibrated(self, nodes: Collection[str]) -> onnx.ModelProto:
        """To be timed: kernels take as long whatever the ranges are."""
        return self(nodes, dict.fromkeys(qdq.activations(self.prepared.graph, nodes), ANY_RANGE))


@dataclass(frozen=True)
class Plan:
    """All that was decided of a model's quantization; writes it."""

    prepared: onnx.ModelProto
    quantized: frozenset[str]
    """Nodes that compute in integers."""
    ranges: Mapping[str, Range]
    roundings: Mapping[str, Rounding]
    scheme: qdq.Scheme
    scaled: frozenset[str]
    """Tensors that equalisation scaled."""
    tables: tuple[str, ...]
    """Embedding tables stored as integers."""
    details: Mapping[str, Any]
    halves: tuple[str, ...] = ()
    """Weights stored as float16."""

    def write(self) -> onnx.ModelProto:
        write = Writer(self.prepared, self.roundings, self.scheme, self.tables, self.halves)
        written = write(self.quantized, self.ranges)
        equalization.rename(written.graph, self.scaled)
        return written

    def trainable(self) -> onnx.ModelProto:
        """The same network with the same roundings, of weights in floating point, as nodes that a training
        engine runs.
        """
        source = (self.prepared, self.quantized, self.ranges, self.roundings, self.scheme)
        written = qdq.write(*source, trainable=True)
        fake_quantization.pair_stored(written.graph, self.roundings)
        fake_quantization.limit(written.graph, self.scheme)
        fake_quantization.pair_biases(written.graph)
        written.graph.ClearField("value_info")
        order.sort(written.graph)
        return written
