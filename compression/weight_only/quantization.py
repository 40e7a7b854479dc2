"""Weight-only quantization of a model: what is done in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compression.dataset import Split
from compression.errors import CompressionError, ErrorKind
from compression.graph.index import Index
from compression.technique import Report
from compression.weight_only import allocation, hessians, matrices, rounding, scaling, tables, writing
from compression.weight_only.allocation import Layer
from compression.weight_only.matrices import FEWEST, Matrix
from compression.weight_only.options import OBSERVING, Options

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Using:
    split: Split | None
    """Calibration samples."""
    threads: int
    report: Report


def quantize(
    model: onnx.ModelProto, options: Options, using: Using
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A copy of a model, and what was done.

    Errors: CompressionError `nothing_to_quantize`, `no_calibration`, E_NUMERIC, E_MODEL_RUN.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if options.format == "qdq":
        made = writing.raised(made)
    found = _found(made, options)
    moments = _moments(model, found, options, using)
    details: dict[str, Any] = {"matrices": len(found)}
    if options.method == "awq":
        details["scaled"] = scaling.scale(made.graph, [one.node.name for one in found], moments, options)
        found = _found(made, options)
    return made, details | _write(made, found, moments, options, using)


def _found(model: onnx.ModelProto, options: Options) -> list[Matrix]:
    found = [one for one in matrices.matrices(model.graph) if one.names.isdisjoint(options.excluded)]
    if not found:
        raise CompressionError(
            "nothing_to_quantize",
            f"no constant float32 matrix of {FEWEST} elements or more is left to quantize",
            ErrorKind.UNSUPPORTED,
        )
    return found


def _moments(
    model: onnx.ModelProto, found: Sequence[Matrix], options: Options, using: Using
) -> dict[str, Doubles]:
    """Of what each matrix reads, by its name."""
    if options.method not in OBSERVING:
        return {}
    if using.split is None:
        detail = f"{options.method} needs calibration samples; rtn and hqq do not"
        raise CompressionError("no_calibration", detail)
    using.report(0.0, "calibrating", {})
    names = list(dict.fromkeys(matrix.source for matrix in found))
    return hessians.observe(model, names, using.split, options.samples, using.threads)


def _write(
    model: onnx.ModelProto,
    found: Sequence[Matrix],
    moments: Mapping[str, Doubles],
    options: Options,
    using: Using,
) -> dict[str, Any]:
    shared = _shared(model.graph, found, options)
    bits = _bits(found, shared, moments, options)
    errors = {}
    for count, matrix in enumerate(found):
        using.report(0.3 + 0.7 * count / len(found), "rounding", {"matrices": count})
        name = matrix.node.output[0]
        blocks = rounding.rounded(matrix, moments.get(matrix.source), options, bits[name])
        errors[name] = rounding.weight_error(matrix, blocks)
        if name in shared:
            rounded = blocks, bits[name]
            writing.share(model.graph, matrix, shared[name], rounded, options.accuracy_level)
        elif options.format == "qdq":
            writing.restore(model.graph, matrix, blocks, bits[name])
        else:
            writing.multiply(model.graph, matrix, blocks, bits[name], options.accuracy_level)
    writing.clean(model)
    looked_up = tables.quantize(model.graph, options.excluded) if options.embeddings else []
    writing.clean(model)
    tied = [matrix.table for matrix in found if matrix.node.output[0] in shared]
    return {"embeddings": looked_up, "tied": tied, "layer_error": errors, "bits": bits}


def _shared(
    graph: onnx.GraphProto, found: Sequence[Matrix], options: Options
) -> dict[str, list[onnx.NodeProto]]:
    """Lookups of the matrices that are tables too, by the matrices' outputs."""
    if not options.embeddings or options.format == "qdq":
        return {}
    index = Index(graph)
    nodes = {
        matrix.node.output[0]: tables.lookups(matrix, index, options.block_size)
        for matrix in found
        if matrix.table not in options.excluded
    }
    return {name: lookups for name, lookups in nodes.items() if lookups}


def _bits(
    found: Sequence[Matrix], shared: Mapping[str, Any], moments: Mapping[str, Doubles], options: Options
) -> dict[str, int]:
    """By the matrices' outputs."""
    names = [matrix.node.output[0] for matrix in found]
    own = {name: max(options.bits, options.table_bits) if name in shared else options.bits for name in names}
    if options.average_bits is None:
        return own
    layers = []
    for name, matrix in zip(names, found, strict=True):
        if name not in shared:
            moment = moments.get(matrix.source)
            blocks = rounding.rounded(matrix, moment, options, allocation.LOW)
            layers.append(Layer(name, matrix.weight.size, rounding.noise(matrix, blocks, moment)))
    return own | dict.fromkeys(allocation.more_bits(layers, options.average_bits), allocation.HIGH)
