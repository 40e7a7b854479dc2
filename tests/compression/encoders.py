"""A small encoder as exporters write it: an additive mask, a few channels that are far larger than others."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.compression.networks import Builder

WIDTH, HEADS, WORDS = 32, 4, 50


def encoder(hidden: float = -1e4, outlier: float = 20.0, opset: int = 17) -> onnx.ModelProto:
    """Tokens and mask int64 [batch, length] -> [batch, length, WIDTH]; `hidden` is added to masked scores.
    The first norm, which residual and projections read, and the second, which only a MatMul reads, have two
    channels each that are `outlier` times as large as the others; what reads them has small weights there.
    """
    b = Builder(5)
    x = b.node("Gather", [b.weight("words", WORDS, WIDTH, scale=1.0), "input_ids"], "embedded")
    x = norm(b, x, "entry", outlier)
    seen = b.node("Cast", ["attention_mask"], "seen", to=TensorProto.FLOAT)
    seen = b.node("Unsqueeze", [seen, b.constant("mask_axes", np.array([1, 2]))], "seen_wide")
    gone = b.node("Sub", [b.constant("one", np.float32(1)), seen], "gone")
    mask = b.node("Mul", [gone, b.constant("hidden", np.float32(hidden))], "mask")
    shape = b.constant("split_heads", np.array([0, 0, HEADS, WIDTH // HEADS]))

    def head(name: str, perm: list[int]) -> str:
        y = linear(b, x, name, WIDTH, outlier)
        return b.node("Transpose", [b.node("Reshape", [y, shape], f"{name}.heads")], f"{name}.t", perm=perm)

    q, k, v = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]), head("value", [0, 2, 1, 3])
    scores = b.node("Div", [b.node("MatMul", [q, k], "scores"), b.constant("root", np.float32(8))], "scaled")
    shares = b.node("Softmax", [b.node("Add", [scores, mask], "masked")], "shares", axis=-1)
    mixed = b.node("Transpose", [b.node("MatMul", [shares, v], "mixed")], "mixed.t", perm=[0, 2, 1, 3])
    joined = b.node("Reshape", [mixed, b.constant("join", np.array([0, 0, WIDTH]))], "joined")
    x = b.node("Add", [linear(b, joined, "mix", WIDTH, 1.0), x], "residual")
    x = norm(b, x, "middle", outlier)
    wide = b.node("Relu", [linear(b, x, "wide", 2 * WIDTH, outlier)], "wide.relu")
    b.node(
        "LayerNormalization", [linear(b, wide, "narrow", WIDTH, 1.0), *ones(b, "last", 1.0)], "hidden_state"
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("hidden_state", TensorProto.FLOAT, ["batch", "length", WIDTH])
    return b.model(inputs, [output], opset)


def ones(b: Builder, name: str, outlier: float) -> list[str]:
    scale = np.ones(WIDTH, np.float32)
    scale[[3, 17]] = outlier
    return [b.constant(f"{name}.scale", scale), b.weight(f"{name}.shift", WIDTH, scale=0.1)]


def norm(b: Builder, x: str, name: str, outlier: float) -> str:
    return b.node("LayerNormalization", [x, *ones(b, name, outlier)], name, axis=-1)


def linear(b: Builder, x: str, name: str, outputs: int, outlier: float) -> str:
    inputs = 2 * WIDTH if name == "narrow" else WIDTH
    values = b.random.standard_normal((inputs, outputs)).astype(np.float32) * inputs**-0.5
    values[[3, 17]] /= outlier
    y = b.node("MatMul", [x, b.constant(f"{name}.weight", values)], f"{name}.product")
    return b.node("Add", [y, b.weight(f"{name}.bias", outputs, scale=0.1)], name)


def texts(seed: int = 0) -> dict[str, np.ndarray]:
    """Sentences of 4 to 9 tokens, padded."""
    random = np.random.default_rng(seed)
    made = {}
    for split in ("calibration", "test"):
        made[f"{split}/input_ids"] = random.integers(1, WORDS, (48, 9))
        made[f"{split}/attention_mask"] = (np.arange(9) < random.integers(4, 10, (48, 1))).astype(np.int64)
    return made
