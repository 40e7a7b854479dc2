"""Shapes of every tensor of a graph for given input shapes, without its weights in memory twice."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import shape_inference

from compression.graph import walk
from compression.inspection import TensorSpec

VALUES_UP_TO = 1024
"""Initializers of at most so many elements keep their values: they may be shapes that inference must know."""


class Shape(NamedTuple):
    elem_type: int
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.dims)


Shapes = Mapping[str, Shape]
"""Only tensors whose every axis is known."""


def of_one_sample(inputs: Sequence[TensorSpec]) -> dict[str, tuple[int | None, ...]]:
    """Input shapes with a dynamic first axis, and every axis of its name, taken as a batch of one.

    Other dynamic axes stay unknown.
    """
    batch = {spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)} - {"?"}
    bound = {}
    for spec in inputs:
        first = [size if isinstance(size, int) else 1 for size in spec.shape[:1]]
        rest = [size if isinstance(size, int) else (1 if size in batch else None) for size in spec.shape[1:]]
        bound[spec.name] = (*first, *rest)
    return bound


def infer(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int | None]]) -> Shapes:
    """Shapes by name, subgraphs included; a tensor that inference cannot size is absent."""
    bound = skeleton(model)
    for value in bound.graph.input:
        if value.name in inputs:
            _bind(value, inputs[value.name])
    try:
        inferred = shape_inference.infer_shapes(bound, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError):
        inferred = bound
    known = {tensor.name: Shape(tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}
    for graph in walk.graphs(inferred.graph):
        known |= _known(graph)
    return known


def _known(graph: onnx.GraphProto) -> dict[str, Shape]:
    known = {tensor.name: Shape(tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            known[value.name] = Shape(tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim))
    return known


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without large weights and without the shapes somebody stored in it, which may be stale."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.functions.extend(model.functions)
    source, graph = model.graph, light.graph
    graph.name = source.name
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    for output in source.output:
        value = graph.output.add(name=output.name)
        value.type.tensor_type.elem_type = output.type.tensor_type.elem_type
    for tensor in source.initializer:
        if math.prod(tensor.dims) <= VALUES_UP_TO:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return light


def _bind(value: onnx.ValueInfoProto, sizes: Sequence[int | None]) -> None:
    for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
        if size is not None:
            dim.dim_value = size
