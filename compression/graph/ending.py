"""What an output of a graph ends in."""

import onnx

from compression.graph.index import Index

GATES = frozenset({"Sigmoid", "HardSigmoid"})
"""They give probabilities that do not exclude each other."""
_LAYOUT = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
_ROUNDING = {"QuantizeLinear", "DequantizeLinear"}


def last_operator(graph: onnx.GraphProto, name: str) -> str:
    """That computes an output, layout and rounding aside; nothing if there is none."""
    index = Index(graph)
    node = index.producer.get(name)
    while node is not None and node.op_type in _LAYOUT | _ROUNDING:
        node = index.producer.get(node.input[0])
    return "" if node is None else node.op_type
