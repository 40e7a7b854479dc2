"""Static quantization of a model, from calibration to the QDQ file: what is done in which order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from compression import mapped
from compression.dataset import Split
from compression.errors import CompressionError, ErrorKind
from compression.graph import (
    activation_ranges,
    calibration,
    embeddings,
    equalization,
    exclusion,
    order,
    packing,
    placement,
    precision,
    qdq,
    rows,
    smoothing,
    tensors,
    weight_rounding,
)
from compression.graph.calibration import Statistics
from compression.graph.index import Index
from compression.graph.plan import Plan, Writer
from compression.graph.preparation import prepare
from compression.kernels.ranges import Method

PROBE = 16
"""Samples that show the magnitudes of channels, for equalisation."""
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Smoothing:
    """Of outliers in what matrix products read."""

    alphas: tuple[float, ...]
    uniform: bool
    """The same alpha for all."""
    samples: int


@dataclass(frozen=True)
class Options:
    scheme: qdq.Scheme
    ranges: Method | Literal["auto"]
    percentile: float
    equalization: bool
    bias_correction: bool
    exclude: Collection[str]
    operators: Collection[str] | None
    """None: wherever it pays."""
    keep: Literal["auto", "none", "all"]
    """In floats: what integers do not make faster, nothing, or every layer (weights alone are rounded)."""
    samples: int
    smoothing: Smoothing | None = None
    bits: Mapping[str, int] = field(default_factory=dict)
    """Of layers, by name of the node: 32 stays as it is, 16 is stored as float16, fewer are integers. The
    scheme says what others get.
    """


@dataclass(frozen=True)
class Resources:
    split: Split
    scratch: Path
    threads: int
    report: Report


def quantize(
    model: onnx.ModelProto, options: Options, using: Resources
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The quantized model and what was chosen.

    Errors: CompressionError `unknown_node`, `nothing_to_quantize`, E_NUMERIC, E_MODEL_RUN.
    """
    plan = decide(model, options, using)
    using.report(0.9, "writing")
    return plan.write(), dict(plan.details)


def smoothed(
    model: onnx.ModelProto, options: Options, using: Resources
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model in floats, the same function with smoother activations, and what was done.

    Errors: CompressionError `unknown_node`, `nothing_to_quantize`, E_MODEL_RUN.
    """
    _check(model, options)
    prepared = prepare(model, using.scratch)
    details, moved = smooth(prepared, _chosen(prepared.graph, options), options, using)
    equalization.rename(prepared.graph, moved)
    prepared.graph.ClearField("value_info")
    order.sort(prepared.graph)
    return prepared, {"smoothed": details}


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
    if options.smoothing:
        using.report(0.1, "smoothing")
        details["smoothed"], moved = smooth(prepared, nodes, options, using)
        scaled.append(moved)
    scheme = options.scheme
    roundings = weight_rounding.choose(prepared.graph, scheme.weight_bits, per_channel=scheme.per_channel)
    roundings = precision.roundings(prepared.graph, roundings, options.bits)
    halves = precision.halves(prepared.graph, options.bits)
    quantized = frozenset() if options.keep == "all" else nodes
    tables = tuple(embeddings.tables(prepared.graph, options.exclude)) if options.operators is None else ()
    if options.keep == "auto" and mapped.size(prepared) < mapped.LARGE:  # what is large, int8 makes faster
        using.report(0.15, "measuring what pays")
        bench = _bench(model, prepared, Writer(prepared, roundings, scheme, tables, halves), using)
        quantized, details["speeds"] = exclusion.choose(bench, nodes)
    using.report(0.3, "calibrating")
    found = activation_ranges.calibrate(
        prepared,
        quantized,
        lambda names: _observe(prepared, names, options.samples, using),
        activation_ranges.Rule(options.ranges, options.percentile, scheme.activation_bits),
        roundings if options.bias_correction else None,
    )
    details |= {"ranges": found.methods, "bias_corrected": found.corrected, "tables": list(tables)}
    details |= _lists(prepared.graph, nodes, found.quantized)
    names = frozenset(name for tensors in scaled for name in tensors)
    return Plan(prepared, found.quantized, found.ranges, roundings, scheme, names, tables, details, halves)


def _bench(
    model: onnx.ModelProto, prepared: onnx.ModelProto, write: Writer, using: Resources
) -> exclusion.Bench:
    feeds = next(using.split.batches(tensors.inputs(model.graph), 1))
    return exclusion.Bench(model, prepared, write.uncalibrated, feeds, using.scratch)


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
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(mapped.array(tensor)).all():
            raise CompressionError("E_NUMERIC", f"weight {tensor.name!r} holds NaN or infinity")
    known = {name for node in model.graph.node for name in (node.name, *node.output)}
    unknown = sorted(set(options.exclude) - known)
    if unknown:
        raise CompressionError("unknown_node", f"exclude: the model has no node or tensor {unknown[0]!r}")


def _chosen(graph: onnx.GraphProto, options: Options) -> frozenset[str]:
    """Every layer that can be quantized, and what lies between them, less what is excluded."""
    operators = qdq.OPERATORS if options.operators is None else options.operators
    nodes = [node for node in qdq.quantizable(graph) if node.op_type in operators]
    if not any(node.op_type in qdq.WEIGHTED for node in nodes):
        raise CompressionError(
            "nothing_to_quantize",
            "the model has no Conv, Gemm or MatMul with constant weights",
            ErrorKind.UNSUPPORTED,
        )
    excluded = {*options.exclude, *(name for name, bits in options.bits.items() if bits >= precision.HALF)}
    nodes = [node for node in nodes if not excluded & {node.name, *node.output}]
    if options.operators is None:
        return placement.worth_rounding(graph, nodes)
    return frozenset(node.name for node in nodes)


def _equalize(prepared: onnx.ModelProto, using: Resources) -> list[list[str]]:
    names = equalization.tensors(prepared.graph)
    if not names:
        return []
    seen = _observe(prepared, names, PROBE, using)
    bounds = {name: one.bound for name, one in seen.items() if one.bound is not None}
    return equalization.equalize(prepared.graph, bounds)


def smooth(
    prepared: onnx.ModelProto, nodes: Collection[str], options: Options, using: Resources
) -> tuple[list[dict[str, Any]], list[str]]:
    """In place; what was done, and the tensors that hold other values since."""
    wanted = options.smoothing
    found = smoothing.groups(prepared.graph, nodes)
    if wanted is None or not found:
        return [], []
    index = Index(prepared.graph)
    widths = {group.tensor: len(group.weight(index)) for group in found}
    machine = calibration.Machine(using.scratch, using.threads)
    seen = rows.observe(prepared, widths, using.split, wanted.samples, machine)
    bits = options.scheme.weight_bits, options.scheme.activation_bits
    rule = smoothing.Rule(wanted.alphas, wanted.uniform, bits, options.percentile)
    details, moved = smoothing.smooth(prepared.graph, found, seen, rule)
    order.sort(prepared.graph)
    return details, sorted(moved)


def _observe(
    model: onnx.ModelProto, names: Sequence[str], samples: int, using: Resources
) -> dict[str, Statistics]:
    machine = calibration.Machine(using.scratch, using.threads)
    return calibration.calibrate(model, names, using.split, samples, machine)
