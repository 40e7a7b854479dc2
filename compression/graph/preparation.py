"""A model made ready for quantization: same function, names of inputs and outputs, and dynamic axes; fewer
operators.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, shape_inference, version_converter

from compression import mapped
from compression.graph import inspection, interface, serialization, shapes, walk
from compression.graph.index import Index
from compression.runtime import map_weights, running

PER_CHANNEL_OPSET = 13
REDUCE_AXES_AS_INPUT = 18
_EXTERNAL = "session.optimized_model_external_initializers"
_WEIGHTS = "folded.weights"


def prepare(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """Opset at least 13 (scales per channel), constants folded, BatchNorm inside Conv, hard swish in two
    operators instead of four, biases untied, every node named, every tensor typed.

    Errors: CompressionError E_MODEL_RUN.
    """
    with running("convert"):
        raised = _raised(model)
    prepared = _folded(raised, scratch)
    interface.restore(prepared, model)
    add_types(prepared)
    _fuse_hard_swish(prepared.graph)
    _pool_means(prepared)
    _untie(prepared.graph)
    _name_nodes(prepared.graph)
    add_types(prepared)
    return prepared


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    if inspection.opset(model) >= PER_CHANNEL_OPSET:
        return model
    return version_converter.convert_version(model, PER_CHANNEL_OPSET)


def _folded(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """ONNX Runtime's basic optimisations: standard operators in, standard operators out. Mapped weights come
    out in a file of `scratch`.
    """
    source, folded = scratch / "raised.onnx", scratch / "folded.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    weights = map_weights(model, options)
    if weights:
        options.add_session_config_entry(f"{_EXTERNAL}_file_name", _WEIGHTS)
        options.add_session_config_entry(f"{_EXTERNAL}_min_size_in_bytes", str(mapped.LEAST))
        source.write_bytes(model.SerializeToString())
    else:
        serialization.write(model, source)
    with running("load"):
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    del weights  # which the session read
    source.unlink()
    result = serialization.parse(folded)
    folded.unlink()
    for tensor in result.graph.initializer:
        if mapped.is_mapped(tensor):
            mapped.refer(tensor, mapped.place(tensor)._replace(path=scratch / _WEIGHTS))
    return result


def add_types(model: onnx.ModelProto) -> None:
    """Types and, where known, shapes of all tensors, in place."""
    inferred = shape_inference.infer_shapes(shapes.skeleton(model))
    model.graph.ClearField("value_info")
    model.graph.value_info.extend(inferred.graph.value_info)


def _fuse_hard_swish(graph: onnx.GraphProto) -> None:
    """x * clip(x + 3, 0, 6) / 6, as exporters write it, is x * HardSigmoid(x): half the work."""
    index = Index(graph)
    for node in list(graph.node):
        found = _hard_swish(node, index)
        if found is not None:
            x, chain = found
            place = list(graph.node).index(chain[0])
            for old in chain:
                graph.node.remove(old)
            gate = f"{node.output[0]}_gate"
            gated = helper.make_node("Mul", [x, gate], node.output, name=node.name)
            sigmoid = helper.make_node(
                "HardSigmoid", [x], [gate], name=f"{node.name}_gate", alpha=1 / 6, beta=0.5
            )
            graph.node.insert(place, gated)
            graph.node.insert(place, sigmoid)


def _hard_swish(last: onnx.NodeProto, index: Index) -> tuple[str, list[onnx.NodeProto]] | None:
    if not _divides_by_six(last, index):
        return None
    multiply = index.producer.get(last.input[0])
    if multiply is None or multiply.op_type != "Mul" or index.only_consumer(multiply.output[0]) is None:
        return None
    for x, gate in (multiply.input, multiply.input[::-1]):
        clip = index.producer.get(gate)
        if clip is not None and _clips_zero_to_six(clip, index):
            add = index.producer.get(clip.input[0])
            if add is not None and _adds_three(add, x, index):
                return x, [add, clip, multiply, last]
    return None


def _divides_by_six(node: onnx.NodeProto, index: Index) -> bool:
    return node.op_type == "Div" and index.scalar(node.input[1]) == 6


def _clips_zero_to_six(node: onnx.NodeProto, index: Index) -> bool:
    bounds = [index.scalar(name) for name in node.input[1:]]
    return node.op_type == "Clip" and bounds == [0, 6] and index.only_consumer(node.output[0]) is not None


def _adds_three(node: onnx.NodeProto, x: str, index: Index) -> bool:
    others = [name for name in node.input if name != x]
    single = len(others) == 1 and index.scalar(others[0]) == 3
    return node.op_type == "Add" and single and index.only_consumer(node.output[0]) is not None


def _pool_means(model: onnx.ModelProto) -> None:
    """A mean over height and width that keeps them is a GlobalAveragePool, which has an int8 kernel."""
    index = Index(model.graph)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    for node in model.graph.node:
        keeps = walk.attribute(node, "keepdims", 1)
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or not keeps:
            continue
        if sorted(axis % 4 for axis in _axes(node, index)) == [2, 3]:
            pooled = helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)
            node.CopyFrom(pooled)


def _axes(reduction: onnx.NodeProto, index: Index) -> list[int]:
    """Attribute or constant input; none where they are computed, or all are meant."""
    given = walk.attribute(reduction, "axes")
    if isinstance(given, Sequence):
        return [int(axis) for axis in given]
    constant = index.constant(reduction.input[1]) if len(reduction.input) > 1 else None
    return [] if constant is None else [int(axis) for axis in constant.ravel()]


def _untie(graph: onnx.GraphProto) -> None:
    """A bias per layer: exporters merge equal ones, but each is rounded to a scale of its own."""
    index = Index(graph)
    used = {*index.initializers, *index.producer}
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm"} or len(node.input) < 3:
            continue
        values = index.constant(node.input[2])
        if values is not None and node.input[2] in seen:
            node.input[2] = _unused(node.input[2], used)
            graph.initializer.append(numpy_helper.from_array(values, node.input[2]))
        seen.add(node.input[2])


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Exclusions are by name; a second node of a name gets a number."""
    used: set[str] = set()
    for node in graph.node:
        node.name = _unused(node.name or f"{node.op_type}_{node.output[0]}", used)


def _unused(name: str, used: set[str]) -> str:
    """The name, with a number where it is taken; it is taken from then on."""
    free = name
    for number in count(2):
        if free not in used:
            break
        free = f"{name}_{number}"
    used.add(free)
    return free
