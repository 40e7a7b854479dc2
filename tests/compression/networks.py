"""Small networks with names, dynamic axes and metadata, made from a seed."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64 = TensorProto.FLOAT, TensorProto.INT64


class Builder:
    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = self.random.standard_normal(shape) * (
            scale if scale is not None else (2 / max(fan, 1)) ** 0.5
        )
        return self.constant(name, values.astype(np.float32))

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"{output}_node", **attributes))
        return output

    def model(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], opset: int = 17
    ) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, {"author": "tests"})
        return model


def cnn(opset: int = 17, channels: int = 32, classes: int = 10) -> onnx.ModelProto:
    """Convolutions with BatchNorm, a depthwise one, a residual sum, a head; image [batch, 1, 12, 12]."""
    b = Builder()

    def conv(source: str, name: str, ins: int, outs: int, group: int = 1) -> str:
        w = b.weight(f"{name}.weight", outs, ins // group, 3, 3)
        x = b.node("Conv", [source, w], f"{name}.conv", kernel_shape=[3, 3], pads=[1] * 4, group=group)
        values = {
            "gamma": b.random.uniform(0.5, 1.5, outs),
            "beta": b.random.normal(0, 0.1, outs),
            "mean": b.random.normal(0, 0.1, outs),
            "var": b.random.uniform(0.5, 1.5, outs),
        }
        stats = [b.constant(f"{name}.{key}", array.astype(np.float32)) for key, array in values.items()]
        return b.node("BatchNormalization", [x, *stats], f"{name}.norm")

    first = b.node("Relu", [conv("image", "stem", 1, channels)], "stem.relu")
    deep = b.node("Relu", [conv(first, "depthwise", channels, channels, channels)], "depthwise.relu")
    deep = conv(deep, "pointwise", channels, channels)
    joined = b.node("Relu", [b.node("Add", [deep, first], "residual")], "residual.relu")
    pooled = b.node("Flatten", [b.node("GlobalAveragePool", [joined], "pool")], "features")
    head = [pooled, b.weight("head.weight", classes, channels), b.weight("head.bias", classes, scale=0.1)]
    b.node("Gemm", head, "logits", transB=1)
    image = helper.make_tensor_value_info("image", F, ["batch", 1, 12, 12])
    return b.model([image], [helper.make_tensor_value_info("logits", F, ["batch", classes])], opset)


def transformer(width: int = 32, heads: int = 4, words: int = 50) -> onnx.ModelProto:
    """Embedding, one attention block and a classifier of tokens; tokens int64 [batch, length]."""
    b = Builder(1)
    x = b.node("Gather", [b.weight("embedding", words, width, scale=1.0), "tokens"], "embedded")
    shape = b.constant("split_heads", np.array([0, 0, heads, width // heads], np.int64))

    def head(name: str, perm: list[int]) -> str:
        y = b.node("MatMul", [x, b.weight(f"{name}.weight", width, width)], f"{name}.out")
        return b.node("Transpose", [b.node("Reshape", [y, shape], f"{name}.heads")], f"{name}.t", perm=perm)

    q, k, v = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]), head("value", [0, 2, 1, 3])
    scores = b.node(
        "Div", [b.node("MatMul", [q, k], "scores"), b.constant("root", np.float32(2.83))], "scaled"
    )
    mixed = b.node("MatMul", [b.node("Softmax", [scores], "attention", axis=-1), v], "mixed")
    merged = b.node("Transpose", [mixed], "merged.t", perm=[0, 2, 1, 3])
    merged = b.node(
        "Reshape", [merged, b.constant("join_heads", np.array([0, 0, width], np.int64))], "merged"
    )
    out = b.node("MatMul", [merged, b.weight("output.weight", width, width)], "attention.out")
    total = b.node("Add", [out, x], "attention.sum")
    ones = (
        b.constant("norm.scale", np.ones(width, np.float32)),
        b.constant("norm.bias", np.zeros(width, np.float32)),
    )
    normed = b.node("LayerNormalization", [total, *ones], "norm", axis=-1)
    wide = b.node("MatMul", [normed, b.weight("ffn.weight", width, 2 * width)], "ffn.wide")
    wide = b.node(
        "Relu", [b.node("Add", [wide, b.weight("ffn.bias", 2 * width, scale=0.1)], "ffn.biased")], "ffn.relu"
    )
    b.node("MatMul", [wide, b.weight("classes.weight", 2 * width, 7)], "logits")
    tokens = helper.make_tensor_value_info("tokens", I64, ["batch", "length"])
    return b.model([tokens], [helper.make_tensor_value_info("logits", F, ["batch", "length", 7])])


def lstm(size: int = 24, features: int = 12) -> onnx.ModelProto:
    """A fixed batch of one; two outputs; sequence [1, length, features]."""
    b = Builder(2)
    steps = b.node("Transpose", ["sequence"], "steps", perm=[1, 0, 2])
    w, r = b.weight("lstm.W", 1, 4 * size, features), b.weight("lstm.R", 1, 4 * size, size)
    bias = b.weight("lstm.B", 1, 8 * size, scale=0.1)
    node = helper.make_node("LSTM", [steps, w, r, bias], ["lstm.Y", "lstm.h"], "lstm_node", hidden_size=size)
    b.nodes.append(node)
    last = b.node("Squeeze", ["lstm.h", b.constant("axis", np.array([0], np.int64))], "last")
    b.node("Gemm", [last, b.weight("head.weight", size, 5), b.weight("head.bias", 5, scale=0.1)], "score")
    b.node("Identity", [last], "state")
    sequence = helper.make_tensor_value_info("sequence", F, [1, "length", features])
    outputs = [
        helper.make_tensor_value_info("score", F, [1, 5]),
        helper.make_tensor_value_info("state", F, [1, size]),
    ]
    return b.model([sequence], outputs)


NETWORKS = {"cnn": cnn, "transformer": transformer, "lstm": lstm}
