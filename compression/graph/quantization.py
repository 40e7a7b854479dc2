"""Static quantization of a model, from calibration to the QDQ file: what is done in which order."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
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
    order,
    qdq,
    storage,
    tensors,
    weight_rounding,
)
from compression.graph.calibration import Statistics
from compression.graph.preparation import prepare
from compression.kernels import ranges
from compression.kernels.ranges import Method, Range

PROBE = 16
"""Samples that show the magnitudes of channels, for equalisation."""
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
    keep: Literal["auto", "none"]
    samples: int


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
    _check(model, options)
    using.report(0.0, "preparing the graph")
    prepared = prepare(model, using.scratch)
    every = _quantizable(prepared.graph, options.operators)
    nodes = {node.name for node in every if not {node.name, *node.output} & set(options.exclude)}
    details: dict[str, Any] = {"stored_as": _storage(options.scheme)}
    if options.equalization:
        using.report(0.05, "equalising channels")
        details["equalized"] = _equalize(prepared, using)
    using.report(0.2, "calibrating")
    wanted = _wanted(prepared.graph, {node.name for node in every}, nodes)
    read = weight_rounding.read(prepared.graph)
    statistics = _observe(prepared, list(dict.fromkeys([*wanted, *read])), options.samples, using)
    chosen = {name: _range(statistics[name], options) for name in wanted}
    details["ranges"] = dict(Counter(method for method, _ in chosen.values()))
    bits, per_channel = options.scheme.weight_bits, options.scheme.per_channel
    roundings = weight_rounding.choose(prepared.graph, bits, per_channel=per_channel)
    if options.bias_correction:
        rounded = weight_rounding.rounded(prepared.graph, roundings)
        means = {name: seen.mean for name, seen in statistics.items() if seen.mean is not None}
        details["bias_corrected"] = len(bias_correction.correct(prepared.graph, rounded, means))
    write = _Writer(prepared, {name: to for name, (_, to) in chosen.items()}, roundings, options.scheme)
    quantized = frozenset(nodes)
    if options.keep == "auto":
        using.report(0.7, "measuring what pays")
        feeds = next(using.split.batches(tensors.inputs(model.graph), 1))
        bench = exclusion.Bench(model, prepared, write, feeds, using.scratch)
        quantized, details["speeds"] = exclusion.choose(bench, quantized)
    using.report(0.9, "writing")
    return write(quantized), details | _lists(prepared.graph, nodes, quantized)


@dataclass(frozen=True)
class _Writer:
    """Writes the model with any choice of quantized nodes; layers that stay float keep integer weights."""

    prepared: onnx.ModelProto
    ranges: Mapping[str, Range]
    roundings: Mapping[str, weight_rounding.Rounding]
    scheme: qdq.Scheme
    done: dict[frozenset[str], onnx.ModelProto] = field(default_factory=dict)

    def __call__(self, nodes: Collection[str]) -> onnx.ModelProto:
        """Not to be edited: a choice is written once."""
        chosen = frozenset(nodes)
        if chosen not in self.done:
            self.done[chosen] = self._write(chosen)
        return self.done[chosen]

    def _write(self, nodes: frozenset[str]) -> onnx.ModelProto:
        written = qdq.write(self.prepared, nodes, self.ranges, self.roundings, self.scheme)
        storage.store(written.graph, self.roundings)
        written.graph.ClearField("value_info")
        order.sort(written.graph)
        return written


def _lists(graph: onnx.GraphProto, nodes: set[str], quantized: Collection[str]) -> dict[str, list[str]]:
    """Layers in graph order: computed in integers, or in floats from integer weights."""
    layers = [node.name for node in graph.node if node.op_type in weight_rounding.LAYERS]
    return {
        "quantized": [name for name in layers if name in quantized],
        "float_layers": [name for name in layers if name not in quantized],
        "kept_float": [
            node.output[0] for node in graph.node if node.name in nodes and node.name not in quantized
        ],
    }


def _storage(scheme: qdq.Scheme) -> str:
    """In words, as there is no smaller type that ONNX Runtime computes in."""
    if min(scheme.weight_bits, scheme.activation_bits) == 8:
        return "int8 weights, uint8 activations"
    return (
        f"{scheme.weight_bits}-bit weights in int8, {scheme.activation_bits}-bit activations in uint8: no "
        "more than so many levels, which zip well; a number takes a byte and is no faster than with 8 bits"
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


def _quantizable(graph: onnx.GraphProto, operators: Collection[str]) -> list[onnx.NodeProto]:
    """Every layer that can be quantized, and what lies between them."""
    nodes = [node for node in qdq.quantizable(graph) if node.op_type in operators]
    if not any(node.op_type in qdq.WEIGHTED for node in nodes):
        raise CompressionError(
            "nothing_to_quantize",
            "the model has no Conv, Gemm or MatMul with constant weights",
            ErrorKind.UNSUPPORTED,
        )
    return nodes


def _wanted(graph: onnx.GraphProto, every: set[str], nodes: set[str]) -> list[str]:
    """Tensors to calibrate. Excluded nodes count: what is looked at changes which kernels the runtime fuses,
    and so the last bits of what is seen; a choice that is repeated by exclusion must see the same.
    """
    return list(dict.fromkeys([*qdq.activations(graph, every), *qdq.activations(graph, nodes)]))


def _equalize(prepared: onnx.ModelProto, using: Resources) -> list[str]:
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
