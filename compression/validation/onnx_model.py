"""A hostile ONNX file -> one normalised file: checked, sorted, flat, with all its weights inside."""

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker, inliner

from compression.graph import order, serialization, shapes, walk
from compression.validation import external_data, functions, structure, tensors, wire


def normalise(path: Path, into: Path, folder: Path | None) -> None:
    """`folder` holds the files that the model may refer to. What is normal already is written as it is. No
    more of a large model's weights is in memory than a tensor.

    Errors: CompressionError.
    """
    wire.scan(path)
    model = _parse(path)
    functions.check(model)
    structure.check(model)
    tensors.check(model)
    external_data.merge(model, path, folder)
    model = _inlined(model)
    order.sort(model.graph)
    _check(model)
    _simplify(model)
    serialization.write(model, into)


def _parse(path: Path) -> onnx.ModelProto:
    try:
        return serialization.outline(path)
    except DecodeError:
        raise structure.invalid("not an ONNX file: its protobuf cannot be parsed") from None


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return inliner.inline_local_functions(model) if model.functions else model


def _check(model: onnx.ModelProto) -> None:
    """ONNX's own rules: attributes and types of each operator."""
    light = shapes.skeleton(model)
    del light.graph.output[:]
    light.graph.output.extend(model.graph.output)
    for tensor in light.graph.initializer:
        if math.prod(tensor.dims) > shapes.VALUES_UP_TO:  # its values were left out
            tensor.ClearField("dims")
            tensor.dims.append(0)
    try:
        checker.check_model(light)
    except (checker.ValidationError, RuntimeError, ValueError) as error:
        raise structure.invalid(" ".join(str(error).split())[:300]) from None


def _simplify(model: onnx.ModelProto) -> None:
    """Constants become initializers, where every technique looks for weights; initializers are no inputs."""
    graph = model.graph
    _hoist_constants(graph)
    filled = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in filled]
    if len(kept) != len(graph.input):
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
        del graph.input[:]
        graph.input.extend(copies)
        model.ir_version = max(model.ir_version, 4)
    for value in (*graph.input, *graph.output):
        _name_axes(value)


def _hoist_constants(graph: onnx.GraphProto) -> None:
    made = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        value = walk.attribute(node, "value") if node.op_type == "Constant" and not node.domain else None
        if isinstance(value, onnx.TensorProto) and node.output[0] not in made:
            graph.initializer.append(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) != len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)


def _name_axes(value: onnx.ValueInfoProto) -> None:
    """A size below zero is how some exporters write a dynamic axis."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value < 0:
            dim.ClearField("dim_value")
