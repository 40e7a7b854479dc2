"""A graph made ready for training: constants as initializers, constant chains folded, shared
vectors untied.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor

from compression.engine.convert import from_proto, to_numpy
from compression.engine.graph import Graph, Node, Reader
from compression.engine.operators import OPERATORS
from compression.engine.roles import Reading, Role, readings
from compression.graph import order, walk
from compression.model import Model

INITIALIZERS_ALONE = 4
"""The first IR version whose initializers need not be graph inputs too."""
_GROWTH = 1 << 20
"""A folded tensor may be this many bytes larger than what it is made of; else the file would grow by Expand
and Tile.
"""
_KEPT = {"QuantizeLinear", "DynamicQuantizeLinear", "Dropout", "Bernoulli", "Constant"}
_NUMBERS: Mapping[str, int] = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_VECTORS = {Role.BIAS, Role.SCALE, Role.STATISTIC}


def normalise(model: Model) -> Model:
    """The same function with the same names, whose every weight is an initializer that its consumer reads
    directly.

    Weights behind DequantizeLinear become floating point; a QuantizeLinear of a float weight stays. Exporters
    store equal vectors once: each consumer gets its own scale and bias, so that training does not tie them.
    Matrices that are shared stay shared.
    """
    proto = model.copy()
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    proto.ir_version = max(proto.ir_version, INITIALIZERS_ALONE)
    order.sort(proto.graph)
    _constants_to_initializers(proto.graph)
    _fold(proto)
    _untie(proto)
    _drop_unused(proto.graph)
    return Model(proto)


def _constants_to_initializers(graph: GraphProto) -> None:
    def becomes(node: NodeProto) -> bool:
        if node.op_type != "Constant" or node.domain:
            return False
        tensor = _constant(node)
        if tensor is None:
            return False
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        return True

    _remove(graph, becomes)


def _constant(node: NodeProto) -> TensorProto | None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    if attribute.name not in _NUMBERS:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(_NUMBERS[attribute.name])
    return numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(attribute), dtype))


def _remove(graph: GraphProto, condition: Callable[[NodeProto], bool]) -> None:
    kept = [node for node in graph.node if not condition(node)]
    del graph.node[:]
    graph.node.extend(kept)


def _fold(proto: ModelProto) -> None:
    """Computes what depends on nothing but initializers, in the graph's order; never past a
    weight's own use.
    """
    reader = Reader(proto)
    values = {name: from_proto(tensor) for name, tensor in reader.stored.items()}
    uses = {reading.node.outputs[0] for reading in readings(reader.graph, values) if reading.role.trained}
    folded, kept = set[str](), uses | set(reader.graph.outputs)
    for node in reader.graph.nodes:
        if kept.isdisjoint(node.outputs) and _foldable(node, values):
            made = _computed(node, values)
            values |= made
            folded.update(made)
    for name in (name for node in reader.graph.nodes for name in node.outputs if name in folded):
        proto.graph.initializer.append(numpy_helper.from_array(to_numpy(values[name]), name))
    _remove(proto.graph, lambda node: bool(node.output) and node.output[0] in folded)


def _foldable(node: Node, values: Mapping[str, Tensor]) -> bool:
    entry = OPERATORS.get((node.domain, node.op_type))
    if entry is None or entry.contextual or node.op_type in _KEPT or node.op_type.startswith("Random"):
        return False
    narrow = any(name in node.types for name in node.outputs)
    return not narrow and bool(node.inputs) and all(name in values for name in node.inputs if name)


def _computed(node: Node, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Nothing where the result is no tensor, or much larger than what it is made of."""
    arguments = [values[name] if name else None for name in node.inputs]
    with torch.no_grad():
        result = OPERATORS[node.domain, node.op_type].build(node)(*arguments)
    results = result if isinstance(result, tuple) else (result,)
    if not all(isinstance(value, Tensor) for value in results):
        return {}
    before = sum(_bytes(value) for value in arguments if value is not None)
    if sum(map(_bytes, results)) > before + _GROWTH:
        return {}
    return {name: value for name, value in zip(node.outputs, results, strict=False) if name}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _untie(proto: ModelProto) -> None:
    """Each use of a shared vector after the first gets a copy; so does the first, where others read it."""
    reader = Reader(proto)
    stored = {name: from_proto(tensor) for name, tensor in reader.stored.items()}
    reads = Counter(name for node in reader.graph.walk() for name in node.inputs)
    shared: dict[str, dict[tuple[str, int], list[Reading]]] = {}
    for reading in readings(reader.graph, stored):
        vector = max(stored[reading.tensor].shape, default=1) == stored[reading.tensor].numel()
        if reading.direct and vector and reading.role in _VECTORS and reads[reading.tensor] > 1:
            use = _companion(reading.node, reader.graph, stored), reading.slot
            shared.setdefault(reading.tensor, {}).setdefault(use, []).append(reading)
    nodes = {node.output[0]: node for node in proto.graph.node if node.output}
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in (name for name in shared if name in initializers):
        groups = list(shared[name].values())
        first = 1 if reads[name] == sum(map(len, groups)) else 0
        for group in groups[first:]:
            places = [(nodes.get(reading.node.outputs[0]), reading.slot) for reading in group]
            _own_copy(proto.graph, initializers[name], places)


def _companion(node: Node, graph: Graph, stored: Mapping[str, Tensor]) -> str:
    """The weight a vector goes with. Uses with the same one are steps of an unrolled layer, and stay tied."""
    makers = [node, *(graph.producers[name] for name in node.inputs if name in graph.producers)]
    weights = (name for maker in makers if maker.op_type in _PRODUCTS for name in maker.inputs[:2])
    return next((name for name in weights if name in stored), node.label)


def _own_copy(graph: GraphProto, tensor: TensorProto, uses: list[tuple[NodeProto | None, int]]) -> None:
    taken = {name for node in graph.node for name in node.output}
    taken |= {entry.name for entry in graph.initializer}
    copy = TensorProto()
    copy.CopyFrom(tensor)
    numbered = (f"{tensor.name}_{count}" for count in itertools.count(2))
    copy.name = next(name for name in numbered if name not in taken)
    graph.initializer.append(copy)
    for node, slot in uses:
        if node is not None:
            node.input[slot] = copy.name


def _drop_unused(graph: GraphProto) -> None:
    read = {value.name for value in graph.output}.union(*(walk.reads(node) for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    dropped = {tensor.name for tensor in graph.initializer} - read
    del graph.initializer[:]
    graph.initializer.extend(kept)
    inputs = [value for value in graph.input if value.name not in dropped]
    del graph.input[:]
    graph.input.extend(inputs)
