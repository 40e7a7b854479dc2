"""The part of a graph that some of its tensors are made by."""

from collections.abc import Iterable

import onnx

from compression.graph import walk


def upstream(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """What makes these tensors, which become the outputs: the runtime would run all nodes of the whole."""
    outputs = list(names)
    needed, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= walk.reads(node)
    part = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    part.graph.name = model.graph.name
    part.graph.node.extend(reversed(nodes))
    part.graph.input.extend(model.graph.input)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    return part
