"""The graph of a hostile model: versions, operators, and names that lead somewhere."""

from collections.abc import Iterable

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as capi

from compression.errors import CompressionError, ErrorKind
from compression.graph import walk

_RUNTIME = {(schema.domain or "ai.onnx", schema.name) for schema in capi.get_all_operator_schema()}
_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml", "com.microsoft"})
_LATEST = {"ai.onnx": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_onnx", why)


def check(model: onnx.ModelProto) -> None:
    """Errors: CompressionError `invalid_onnx`, `op_refused`."""
    _check_versions(model)
    local = {(function.domain, function.name) for function in model.functions}
    bodies: list[Iterable[onnx.NodeProto]] = [walk.nodes(model.graph)]
    bodies += [function.node for function in model.functions]
    for body in bodies:
        for node in body:
            if (node.domain, node.op_type) not in local:
                _check_operator(node)
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            raise CompressionError(
                "op_refused",
                f"{value.name!r} is no tensor; inputs and outputs must be",
                ErrorKind.UNSUPPORTED,
            )


def _check_versions(model: onnx.ModelProto) -> None:
    if not model.HasField("graph") or not 3 <= model.ir_version <= onnx.IR_VERSION:
        raise invalid(f"ir_version {model.ir_version} is not read, or there is no graph")
    for entry in model.opset_import:
        latest = _LATEST.get(entry.domain or "ai.onnx")
        if latest and not 1 <= entry.version <= latest:
            raise invalid(
                f"opset {entry.version} of {entry.domain or 'ai.onnx'!r} is not read; at most {latest} is"
            )
    if not model.graph.output:
        raise invalid("the graph has no output")


def _check_operator(node: onnx.NodeProto) -> None:
    domain = node.domain or "ai.onnx"
    if domain not in _DOMAINS or (domain, node.op_type) not in _RUNTIME:
        raise CompressionError(
            "op_refused",
            f"operator {node.op_type!r} of domain {domain!r} is not known to ONNX Runtime",
            ErrorKind.UNSUPPORTED,
        )
