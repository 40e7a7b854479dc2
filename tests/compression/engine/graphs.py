"""Small graphs, made from a seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from compression.model import Model

Array = np.ndarray[Any, Any]
Edge = tuple[str, Sequence[int | str]]


def node(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attributes: Any
) -> onnx.NodeProto:
    made = [outputs] if isinstance(outputs, str) else list(outputs)
    return helper.make_node(op_type, list(inputs), made, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Edge],
    outputs: Sequence[str],
    stored: Mapping[str, Array] | None = None,
    opset: int = 17,
) -> Model:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (stored or {}).items()],
    )
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9))


def check(subject: Model) -> None:
    """The file is valid, with all its types and shapes."""
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(subject.proto, True, True, True))


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def onnxruntime(subject: Model, inputs: Mapping[str, Array]) -> list[Array]:
    """With optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(subject.serialized, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def classifier(activation: str = "Relu") -> Model:
    """Conv, BatchNormalization, activation, Conv with bias, pool, Gemm; weights of each encoding and dotted
    names.
    """
    nodes = [
        node("Conv", ["image", "stem.weight"], "stem", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["stem", "norm.scale", "norm.bias", "norm.mean", "norm.variance"], "norm"),
        node(activation, ["norm"], "active"),
        node("Conv", ["active", "body.weight", "body.bias"], "body", strides=[2, 2], kernel_shape=[3, 3]),
        node("GlobalAveragePool", ["body"], "pool"),
        node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "head.weight", "head.bias"], "logits", transB=1),
    ]
    stored = {
        "stem.weight": noise(6, 3, 3, 3, seed=1) * 0.3,
        "norm.scale": 1 + 0.1 * noise(6, seed=2),
        "norm.bias": noise(6, seed=3) * 0.1,
        "norm.mean": noise(6, seed=4) * 0.1,
        "norm.variance": 1 + 0.1 * noise(6, seed=5) ** 2,
        "body.weight": noise(8, 6, 3, 3, seed=6) * 0.2,
        "body.bias": noise(8, seed=7) * 0.1,
        "head.weight": noise(5, 8, seed=8),
        "head.bias": noise(5, seed=9),
    }
    return model(nodes, [("image", ["batch", 3, 8, 8])], ["logits"], stored)
