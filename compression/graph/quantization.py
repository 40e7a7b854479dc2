"""Static quantization of a model, from calibration to the QDQ file: what is done in which order."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from compression.dataset import Split
from compression.errors import CompressionError, ErrorKind
from compression.graph import (
    bias_correction,
    calibration,
    equalization,
    exclusion,
    fake_quantization,
    order,
    packing,
    qdq,
    storage,
    tensors,
    weight_rounding,
)
from compression.graph.calibration import Statistics
from compression.graph.preparation import prepare
from compression.graph.weight_rounding import Rounding
from compression.kernels import ranges
from compression.kernels.ranges import Method, Range

PROBE = 16
"""Samples that show the magnitudes of channels, for equalisation."""
ANY_RANGE = Range(-4.0, 4.0)
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Options:
    scheme: qdq.Scheme
    ranges: Method | Literal["auto"]
    percentile: float
    equalization: bool
    bias_correction: bool
    exclude: Collection[str]
    operators: Collection[str]
    keep: Literal["auto", "none", "all"]
    """In floats: what integers do not make faster, nothing, or every layer (weights alone are rounded)."""
    samples: int


@dataclass(frozen=True)
class Resources:
    split: Split
    scratch: Path
    threads: int
    report: Report


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
    details: Mapping[str, Any]

    def write(self) -> onnx.ModelProto:
        written = _Writer(self.prepared, self.roundings, self.scheme)(self.quantized, self.ranges)
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


def quantize(
    model: onnx.ModelProto, options: Options, using: Resources
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The quantized model and what was chosen.

    Errors: CompressionError `unknown_node`, `nothing_to_quantize`, E_NUMERIC, E_MODEL_RUN.
    """
    plan = decide(model, options, using)
    using.report(0.9, "writing")
    return plan.write(), dict(plan.details)


def decide(model: onnx.ModelProto, options: Options, using: Resources) -> Plan:
    """Errors: as those of `quantize`."""
    _check(model, options)
    using.report(0.0, "preparing the graph")
    prepared = prepare(model, using.scratch)
    nodes = _chosen(prepared.graph, options)
    details: dict[str, Any] = {"stored_as": _storage(options)}
    scaled: list[list[str]] = []
    if options.equalization:
        using.report(0.05, "equalising channels")
        scaled = _equalize(prepared, using)
        details["equalized"] = [tensors[0] for tensors in scaled]
    scheme = options.scheme
    roundings = weight_rounding.choose(prepared.graph, scheme.weight_bits, per_channel=scheme.per_channel)
    quantized = frozenset() if options.keep == "all" else nodes
    if options.keep == "auto":
        using.report(0.15, "measuring what pays")
        bench = _bench(model, prepared, _Writer(prepared, roundings, scheme), using)
        quantized, details["speeds"] = exclusion.choose(bench, nodes)
    using.report(0.3, "calibrating")
    found = _ranges(prepared, quantized, roundings, options, using)
    details |= {"ranges": found.methods, "bias_corrected": found.corrected}
    details |= _lists(prepared.graph, nodes, quantized)
    names = frozenset(name for tensors in scaled for name in tensors)
    return Plan(prepared, quantized, found.ranges, roundings, scheme, names, details)


@dataclass(frozen=True)
class _Writer:
    """Writes the model with any choice of quantized nodes; layers that stay float keep integer weights."""

    prepared: onnx.ModelProto
    roundings: Mapping[str, Rounding]
    scheme: qdq.Scheme

    def __call__(self, nodes: Collection[str], ranges_: Mapping[str, Range]) -> onnx.ModelProto:
        written = qdq.write(self.prepared, nodes, ranges_, self.roundings, self.scheme)
        storage.store(written.graph, self.roundings)
        packing.pack(written.graph, self.scheme.weight_bits)
        written.graph.ClearField("value_info")
        order.sort(written.graph)
        return written

    def uncalibrated(self, nodes: Collection[str]) -> onnx.ModelProto:
        """To be timed: kernels take as long whatever the ranges are."""
        return self(nodes, dict.fromkeys(qdq.activations(self.prepared.graph, nodes), ANY_RANGE))


def _bench(
    model: onnx.ModelProto, prepared: onnx.ModelProto, write: _Writer, using: Resources
) -> exclusion.Bench:
    feeds = next(using.split.batches(tensors.inputs(model.graph), 1))
    return exclusion.Bench(model, prepared, write.uncalibrated, feeds, using.scratch)


@dataclass(frozen=True)
class _Calibrated:
    ranges: dict[str, Range]
    methods: dict[str, int]
    """How many tensors each method served."""
    corrected: int
    """Layers whose bias was corrected."""


def _ranges(
    prepared: onnx.ModelProto,
    nodes: Collection[str],
    roundings: Mapping[str, Rounding],
    options: Options,
    using: Resources,
) -> _Calibrated:
    """Ranges of what the nodes read and write; biases are corrected on the way, as the same pass gives the
    means.
    """
    wanted = qdq.activations(prepared.graph, nodes)
    read = weight_rounding.read(prepared.graph) if options.bias_correction else []
    statistics = _observe(prepared, list(dict.fromkeys([*wanted, *read])), options.samples, using)
    chosen = {name: _range(statistics[name], options) for name in wanted}
    corrected: list[str] = []
    if options.bias_correction:
        rounded = weight_rounding.rounded(prepared.graph, roundings)
        means = {name: seen.mean for name, seen in statistics.items() if seen.mean is not None}
        corrected = bias_correction.correct(prepared.graph, rounded, means)
    methods: Counter[str] = Counter(method for method, _ in chosen.values())
    return _Calibrated({name: to for name, (_, to) in chosen.items()}, dict(methods), len(corrected))


def _lists(
    graph: onnx.GraphProto, nodes: Collection[str], quantized: Collection[str]
) -> dict[str, list[str]]:
    """Layers in graph order: computed in integers, or in floats from integer weights."""
    layers = [node.name for node in graph.node if node.op_type in weight_rounding.LAYERS]
    return {
        "quantized": [name for name in layers if name in quantized],
        "float_layers": [name for name in layers if name not in quantized],
        "kept_float": [
            node.output[0] for node in graph.node if node.name in nodes and node.name not in quantized
        ],
    }


def _storage(options: Options) -> str:
    """In words, as there is no smaller type that ONNX Runtime computes in."""
    scheme, width = options.scheme, packing.width(options.scheme.weight_bits)
    fewer = f"{scheme.weight_bits}-bit weights"
    weights = f"{fewer}, {8 // width} to a byte" if width else f"{fewer} in int8"
    if options.keep == "all":
        return f"{weights}; computed with in floats"
    if min(scheme.weight_bits, scheme.activation_bits) == 8:
        return "int8 weights, uint8 activations"
    return (
        f"{weights}, {scheme.activation_bits}-bit activations in uint8: no more than so many levels; "
        "computed with as int8, no faster than with 8 bits"
    )


def _check(model: onnx.ModelProto, options: Options) -> None:
    for tensor in model.graph.initializer:
        if (
            tensor.data_type == onnx.TensorProto.FLOAT
            and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all()
        ):
            raise CompressionError("E_NUMERIC", f"weight {tensor.name!r} holds NaN or infinity")
    known = {name for node in model.graph.node for name in (node.name, *node.output)}
    unknown = sorted(set(options.exclude) - known)
    if unknown:
        raise CompressionError("unknown_node", f"exclude: the model has no node or tensor {unknown[0]!r}")


def _chosen(graph: onnx.GraphProto, options: Options) -> frozenset[str]:
    """Every layer that can be quantized, and what lies between them, less what is excluded."""
    nodes = [node for node in qdq.quantizable(graph) if node.op_type in options.operators]
    if not any(node.op_type in qdq.WEIGHTED for node in nodes):
        raise CompressionError(
            "nothing_to_quantize",
            "the model has no Conv, Gemm or MatMul with constant weights",
            ErrorKind.UNSUPPORTED,
        )
    excluded = set(options.exclude)
    return frozenset(node.name for node in nodes if not excluded & {node.name, *node.output})


def _equalize(prepared: onnx.ModelProto, using: Resources) -> list[list[str]]:
    names = equalization.tensors(prepared.graph)
    if not names:
        return []
    seen = _observe(prepared, names, PROBE, using)
    bounds = {name: one.bound for name, one in seen.items() if one.bound is not None}
    return equalization.equalize(prepared.graph, bounds)


def _observe(
    model: onnx.ModelProto, names: list[str], samples: int, using: Resources
) -> dict[str, Statistics]:
    machine = calibration.Machine(using.scratch, using.threads)
    return calibration.calibrate(model, names, using.split, samples, machine)


def _range(seen: Statistics, options: Options) -> tuple[Method, Range]:
    bits = options.scheme.activation_bits
    if options.ranges == "auto":
        return ranges.by_error(seen.histogram, bits, options.percentile)
    return options.ranges, ranges.METHODS[options.ranges](seen.histogram, bits, options.percentile)
