"""Networks that keep channels last arrive with a Transpose on either side of each convolution."""

from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import numpy_helper

_STANDARD = {"", "ai.onnx"}


def channels_first(path: Path) -> None:
    """Rewrites the file in place: Transposes meet and cancel, normalisation that follows a convolution is
    folded into it. ONNX Runtime's own basic optimisation does it, in standard operators; what would need
    others is left as it was.

    Techniques look for a convolution and what follows it: they would find little between Transposes.
    """
    model = onnx.load(path)
    if not any(node.op_type == "Conv" for node in model.graph.node):
        return
    _subtractions_as_additions(model.graph)
    onnx.save(model, path)
    simpler = path.with_suffix(".simple.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(simpler)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = onnx.load(simpler)
    if all(node.domain in _STANDARD for node in made.graph.node):
        simpler.replace(path)


def _subtractions_as_additions(graph: onnx.GraphProto) -> None:
    """x - c as x + (-c), which folds into a convolution."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        subtracted = stored.get(node.input[1]) if node.op_type == "Sub" else None
        if subtracted is not None and subtracted.data_type == onnx.TensorProto.FLOAT:
            negated = -numpy_helper.to_array(subtracted)
            node.op_type, node.input[1] = "Add", f"{node.output[0]}_negated"
            graph.initializer.append(numpy_helper.from_array(negated, node.input[1]))
