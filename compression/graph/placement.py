"""Which of the nodes that could compute in int8 should: layers, and what continues or prepares the integers
of a convolution or a Gemm.

The int8 kernel of a MatMul writes floats at no cost, and what stands between the matrix products of an
encoder (sums of biases and residuals, the mask of attention) is cheap in floats, but rounded to 8 bits costs
most of the accuracy: MiniLM lost 12 dB by it, and was slower.
"""

from collections.abc import Collection, Iterator

import onnx

from compression.graph.index import Index
from compression.graph.qdq import REMOVABLE, SAME_RANGE, WEIGHTED

_WRITES_INTEGERS = frozenset({"Conv", "Gemm"})
_SINGLE_INPUT = SAME_RANGE | REMOVABLE
_EXPONENTIAL = frozenset({"Softmax", "LogSoftmax"})
"""Computed in floats, of sums with masks of -1e4 to -3.4e38, which no 8 bits can hold beside the rest."""


def worth_rounding(graph: onnx.GraphProto, nodes: Collection[onnx.NodeProto]) -> frozenset[str]:
    """Names of those to quantize; `nodes` can be, in the order of the graph."""
    index = Index(graph)
    placed = {node.name for node in nodes if node.op_type in WEIGHTED}
    between = [node for node in nodes if node.op_type not in WEIGHTED and not _feeds_softmax(node, index)]
    for node in between:
        if any(_gives_integers(source, placed) for source in _sources(node, index)):
            placed.add(node.name)
    for node in reversed(between):
        if node.op_type in _SINGLE_INPUT and _only_for_integers(node, index, placed):
            placed.add(node.name)
    return frozenset(placed)


def _feeds_softmax(node: onnx.NodeProto, index: Index) -> bool:
    return any(reader.op_type in _EXPONENTIAL for reader in index.consumers[node.output[0]])


def _sources(node: onnx.NodeProto, index: Index) -> Iterator[onnx.NodeProto]:
    return (index.producer[name] for name in node.input if name in index.producer)


def _gives_integers(source: onnx.NodeProto, placed: Collection[str]) -> bool:
    return source.name in placed and (source.op_type in _WRITES_INTEGERS or source.op_type not in WEIGHTED)


def _only_for_integers(node: onnx.NodeProto, index: Index, placed: Collection[str]) -> bool:
    readers = index.consumers[node.output[0]]
    return (
        bool(readers)
        and node.output[0] not in index.outputs
        and all(
            reader.name in placed and (reader.op_type in _WRITES_INTEGERS or reader.op_type not in WEIGHTED)
            for reader in readers
        )
    )
