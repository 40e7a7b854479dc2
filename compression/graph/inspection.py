"""What is worth knowing of a model, from its graph alone."""

from collections import Counter

import onnx

from compression.graph import lookups, macs, shapes, tensors, walk, weights
from compression.inspection import ModelInspection


def inspect(model: onnx.ModelProto, format_name: str, size: int) -> ModelInspection:
    """`size` is that of the normalised file in bytes."""
    graph = model.graph
    operators = Counter(node.op_type for node in walk.nodes(graph))
    inputs = tensors.inputs(graph)
    known = shapes.infer(model, shapes.of_one_sample(inputs))
    return ModelInspection(
        format=format_name,
        opset=opset(model),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=inputs,
        outputs=tensors.outputs(graph),
        operators=dict(sorted(operators.items())),
        nodes=operators.total(),
        params=weights.params(graph),
        macs=macs.count(graph.node, known),
        bytes=size,
        traits=weights.traits(graph),
        lookups={
            spec.name: count for spec in inputs if (count := lookups.rows(graph, spec.name)) is not None
        },
    )


def opset(model: onnx.ModelProto) -> int:
    """Version of the default domain; 0 where a model uses none of it."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
