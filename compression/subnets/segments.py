"""Segments: a layer with what a runtime computes along with it, cut out of a graph to be timed alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from compression import runtime
from compression.graph import walk
from compression.graph.blocks import LAYERS
from compression.graph.index import Index
from compression.graph.shapes import Shape, Shapes

_FOLLOWING = {
    "Add", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Tanh",
}  # fmt: skip
"""Operators that runtimes fuse into the layer before them."""


@dataclass
class Segment:
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    @property
    def output(self) -> str:
        return str(self.nodes[-1].output[0])

    def reads(self) -> list[str]:
        """What comes from outside, constants included, each once."""
        made = {name for node in self.nodes for name in node.output}
        names = (name for node in self.nodes for name in node.input if name)
        return [name for name in dict.fromkeys(names) if name not in made]

    def key(self, shapes: Shapes) -> bytes:
        """The same for segments that compute the same on the same shapes."""
        parts = []
        for node in self.nodes:
            attributes = sorted(one.SerializeToString() for one in node.attribute)
            sizes = [shapes[name] if name else None for name in (*node.input, *node.output)]
            parts.append(repr((node.op_type, attributes, sizes)))
        return "\n".join(parts).encode()


def segments(graph: onnx.GraphProto, shapes: Shapes) -> Iterator[Segment]:
    """Those that compute in floats, of tensors whose shapes are known: what computes shapes, and what reads
    them (a Reshape), takes no time that counts.
    """
    index = Index(graph)
    open_: dict[str, Segment] = {}
    found = []
    for node in graph.node:
        if not _counts(node, index, shapes):
            continue
        before = next((open_[name] for name in node.input if name in open_), None)
        if before is None or node.op_type not in _FOLLOWING:
            before = Segment()
            found.append(before)
        else:
            del open_[before.output]
        before.nodes.append(node)
        if any(one.op_type in LAYERS for one in before.nodes) and _private(node, index):
            open_[node.output[0]] = before
    yield from found


def _counts(node: onnx.NodeProto, index: Index, shapes: Shapes) -> bool:
    names = [name for name in (*node.input, *node.output) if name]
    if any(name not in shapes for name in names) or any(True for _ in walk.subgraphs(node)):
        return False
    flowing = [name for name in names if name not in index.initializers]
    return bool(flowing) and all(shapes[name].elem_type == TensorProto.FLOAT for name in flowing)


def _private(node: onnx.NodeProto, index: Index) -> bool:
    return len(node.output) == 1 and index.only_consumer(node.output[0]) is not None


class Bench(NamedTuple):
    """Segments side by side in one model."""

    model: onnx.ModelProto
    feeds: Mapping[str, runtime.Array]
    names: list[list[str]]
    """Of the nodes of each segment."""


def bench(source: onnx.ModelProto, chosen: Iterable[Segment], shapes: Shapes) -> Bench:
    """Each segment has inputs of its own, of random numbers."""
    model = onnx.ModelProto(ir_version=source.ir_version, opset_import=source.opset_import)
    model.graph.name = "segments"
    constants = {tensor.name: tensor for tensor in source.graph.initializer}
    random = np.random.default_rng(0)
    feeds: dict[str, runtime.Array] = {}
    names = []
    for number, segment in enumerate(chosen):
        renamed = {name: f"{name}@{number}" for name in segment.reads() if name not in constants}
        for name, own in renamed.items():
            model.graph.input.append(_value(own, shapes[name]))
            feeds[own] = random.standard_normal(shapes[name].dims, dtype=np.float32)
        renamed |= {name: f"{name}@{number}" for node in segment.nodes for name in node.output}
        names.append([f"segment_{number}_{at}" for at in range(len(segment.nodes))])
        for name, node in zip(names[-1], segment.nodes, strict=True):
            copy = model.graph.node.add()
            copy.CopyFrom(node)
            copy.name = name
            copy.input[:] = [renamed.get(one, one) for one in node.input]
            copy.output[:] = [renamed[one] if one else "" for one in node.output]
        model.graph.output.append(_value(renamed[segment.output], shapes[segment.output]))
    read = set().union(*(walk.reads(node) for node in model.graph.node))
    model.graph.initializer.extend(tensor for name, tensor in constants.items() if name in read)
    return Bench(model, feeds, names)


def _value(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, shape.elem_type, shape.dims)
