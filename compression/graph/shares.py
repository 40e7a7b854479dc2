"""How much of a model's work some of its nodes do."""

from collections.abc import Iterable, Sequence

import onnx

from compression.graph import macs, shapes
from compression.inspection import TensorSpec


def of_macs(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], nodes: Iterable[onnx.NodeProto]
) -> float | None:
    """Of the multiply-accumulates of one sample, 0-1; None where they cannot be told from the graph."""
    known = shapes.infer(model, shapes.of_one_sample(inputs))
    whole, part = macs.count(model.graph.node, known), macs.count(nodes, known)
    return round(part / whole, 4) if whole and part is not None else None
