"""Inputs that are looked up in a table: texts as tokens, mostly."""

import onnx


def rows(graph: onnx.GraphProto, name: str) -> int | None:
    """Integers below it are valid for this input: rows of the smallest table that it is looked up in; None
    where it is looked up in none.
    """
    sizes = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    names = {name}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in names:
            names.add(node.output[0])
    tables = (
        sizes.get(node.input[0], 0)
        for node in graph.node
        if node.op_type == "Gather" and node.input[1] in names
    )
    return min((count for count in tables if count), default=None)
