"""Small networks whose channels go through what real ones go through; image inputs are [batch, 3, 8, 8]."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.compression.networks import Builder, F, cnn, transformer


class Net(Builder):
    def conv(self, x: str, ins: int, outs: int, *, kernel: int = 3, group: int = 1, bias: bool = True) -> str:
        name = f"conv{len(self.nodes)}"
        inputs = [x, self.weight(f"{name}.weight", outs, ins // group, kernel, kernel)]
        if bias:
            inputs.append(self.weight(f"{name}.bias", outs, scale=0.3))
        return self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=group)

    def linear(self, x: str, ins: int, outs: int) -> str:
        name = f"linear{len(self.nodes)}"
        y = self.node("MatMul", [x, self.weight(f"{name}.weight", ins, outs, scale=ins**-0.5)], f"{name}.mul")
        return self.node("Add", [y, self.weight(f"{name}.bias", outs, scale=0.3)], name)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        return self.node(kind, inputs, f"{kind.lower()}{len(self.nodes)}", **attributes)

    def ints(self, *values: int) -> str:
        return self.constant(f"ints{len(self.weights)}", np.array(values, np.int64))

    def classes(self, x: str, channels: int) -> None:
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        weights = [self.weight("head.weight", 5, channels), self.weight("head.bias", 5, scale=0.3)]
        self.node("Gemm", [pooled, *weights], "y", transB=1)

    def done(
        self, shape: Sequence[object] = ("batch", 3, 8, 8), rank: int = 2, opset: int = 17
    ) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", F, shape)
        return self.model(
            [x], [helper.make_tensor_value_info("y", F, ["batch"] + [None] * (rank - 1))], opset
        )


def residual() -> onnx.ModelProto:
    """Two residual blocks, the second of which adds nothing."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 16))
    for _ in range(2):
        y = b.conv(b.op("Relu", b.conv(x, 16, 24)), 24, 16)
        x = b.op("Relu", b.op("Add", y, x))
    for tensor in b.weights[-2:]:
        tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))
    b.classes(x, 16)
    return b.done()


def dense_block() -> onnx.ModelProto:
    """Concat of everything before, twice; a leaky activation with a slope for each channel."""
    b = Net()
    x = b.op("PRelu", b.conv("x", 3, 8), b.weight("slope", 8, 1, 1, scale=0.2))
    for ins in (8, 12):
        x = b.op("Concat", x, b.op("Sigmoid", b.conv(x, ins, 4)), axis=1)
    b.classes(b.op("Relu", b.conv(x, 16, 10, kernel=1)), 10)
    return b.done()


def gated() -> onnx.ModelProto:
    """One half of the channels gates the other; by Split, then by Slice."""
    b = Net()
    x = b.conv("x", 3, 16)
    b.node("Split", [x, b.ints(8, 8)], "value", axis=1)
    b.nodes[-1].output.append("gate")
    x = b.conv(b.op("Mul", "value", b.op("Sigmoid", "gate")), 8, 12)
    halves = [b.op("Slice", x, b.ints(a), b.ints(e), b.ints(1)) for a, e in ((0, 6), (-6, 2**40))]
    b.classes(b.op("Mul", halves[0], b.op("HardSigmoid", halves[1])), 6)
    return b.done()


def uneven() -> onnx.ModelProto:
    """A Split without sizes whose parts are used differently; padding; a permutation of channels."""
    b = Net()
    b.node("Split", [b.conv("x", 3, 12)], "left", axis=1)
    b.nodes[-1].output.append("right")
    left = b.conv(b.op("Relu", "left"), 6, 6)
    right = b.op("Pad", b.op("Tanh", "right"), b.ints(0, 0, 1, 1, 0, 0, 1, 1))
    right = b.conv(b.op("MaxPool", right, kernel_shape=[3, 3]), 6, 6)
    mixed = b.op("Gather", b.op("Concat", left, right, axis=1), b.ints(*range(11, -1, -2), 0, 2, 4), axis=1)
    b.classes(b.conv(mixed, 9, 7), 7)
    return b.done(opset=13)


def grouped() -> onnx.ModelProto:
    """A grouped convolution, a depthwise one with two outputs a channel, squeeze and excitation."""
    b = Net()
    x = b.conv(b.op("Relu", b.conv("x", 3, 12, bias=False)), 12, 24, group=4)
    x = b.conv(b.op("Relu", x), 24, 48, group=24)
    squeezed = b.op("Relu", b.conv(b.op("ReduceMean", x, axes=[2, 3]), 48, 12, kernel=1))
    x = b.op("Mul", x, b.op("HardSigmoid", b.conv(squeezed, 12, 48, kernel=1)))
    b.classes(b.conv(x, 48, 9, kernel=1), 9)
    return b.done()


def decoder() -> onnx.ModelProto:
    """Up by transposed convolution, Resize to computed sizes, DepthToSpace; norms over channels' groups."""
    b = Net()
    x = b.conv("x", 3, 8)
    norm = [b.weight("in.scale", 8, scale=1.0), b.weight("in.bias", 8, scale=0.3)]
    x = b.op("Relu", b.op("InstanceNormalization", x, *norm))
    up = [b.weight("up.weight", 8, 12, 2, 2), b.weight("up.bias", 12, scale=0.3)]
    x = b.op("ConvTranspose", x, *up, kernel_shape=[2, 2], strides=[2, 2])
    norm = [b.weight("gn.scale", 12, scale=1.0), b.weight("gn.bias", 12, scale=0.3)]
    x = b.op("Relu", b.op("GroupNormalization", x, *norm, num_groups=3))
    sizes = b.op("Concat", b.op("Shape", x, start=0, end=2), b.ints(8, 8), axis=0)
    x = b.op("Resize", x, "", "", sizes, mode="nearest")
    x = b.op("DepthToSpace", b.conv(x, 12, 24), blocksize=2)
    b.classes(b.conv(x, 6, 7), 7)
    return b.done(opset=21)


def flattened(*, last: bool = False) -> onnx.ModelProto:
    """Conv, Flatten, Gemm; `last` as exporters of channels-last frameworks write it."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 6))
    if last:
        x = b.op("Transpose", x, perm=[0, 2, 3, 1])
    x = b.op("Reshape", x, b.ints(-1, 384)) if last else b.op("Flatten", x)
    x = b.op(
        "Relu", b.op("Gemm", x, b.weight("wide", 384, 20, scale=0.05), b.weight("wide.b", 20, scale=0.3))
    )
    b.node("MatMul", [x, b.weight("head", 20, 5)], "y")
    return b.done()


def shuffled() -> onnx.ModelProto:
    """Channels shuffled by Reshape and Transpose; a sum over a dynamic shape's Expand."""
    b = Net()
    x = b.op("Reshape", b.conv("x", 3, 12), b.ints(0, 3, 4, 8, 8))
    x = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 1, 3, 4]), b.ints(-1, 12, 8, 8))
    shift = b.op("Expand", b.weight("shift", 1, 12, 1, 1), b.op("Shape", x))
    x = b.op("Add", x, shift)
    b.classes(b.conv(x, 12, 6), 6)
    return b.done()


def encoder(style: str) -> onnx.ModelProto:
    """Attention and a feed-forward part with LayerNorm; x [batch, length, 24], 4 heads.

    The style is how heads are written: `chain` computes shapes, `packed` has Q, K and V in one matrix,
    `operator` is Attention-23 with two heads for K and V, `einsum` keeps heads as an axis of the weights.
    """
    b = Net(1)
    attended = {"chain": _chain, "packed": _packed, "operator": _operator, "einsum": _einsum}[style](b)
    x = _norm(b, b.op("Add", attended, "x"), 24)
    wide = b.linear(x, 24, 40)
    gelu = b.op("Mul", wide, b.op("Add", b.op("Erf", wide), b.constant("one", np.float32(1))))
    x = _norm(b, b.op("Add", b.linear(gelu, 40, 24), x), 24)
    b.node("MatMul", [x, b.weight("classes", 24, 5)], "y")
    return b.done(("batch", "length", 24), 3, 23 if style == "operator" else 17)


def _norm(b: Net, x: str, size: int) -> str:
    name = f"norm{len(b.nodes)}"
    return b.op(
        "LayerNormalization",
        x,
        b.weight(f"{name}.scale", size, scale=1.0),
        b.weight(f"{name}.bias", size, scale=0.1),
    )


def _attend(b: Net, q: str, k: str, v: str) -> str:
    """[batch, heads, length, size] each, K turned."""
    return b.op("MatMul", b.op("Softmax", b.op("MatMul", q, k), axis=-1), v)


def _chain(b: Net) -> str:
    def heads(perm: list[int]) -> str:
        y = b.linear("x", 24, 24)
        size = [b.op("Gather", b.op("Shape", y), b.ints(at)) for at in (0, 1, 2)]
        by_size = b.op("Div", size[2], b.ints(6))
        shape = b.op("Concat", size[0], size[1], by_size, b.ints(6), axis=0)
        return b.op("Transpose", b.op("Reshape", y, shape), perm=perm)

    mixed = b.op(
        "Transpose",
        _attend(b, heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])),
        perm=[0, 2, 1, 3],
    )
    size = [b.op("Gather", b.op("Shape", mixed), b.ints(at)) for at in (0, 1)]
    shape = b.op("Concat", *size, b.ints(24), axis=0)
    return b.linear(b.op("Reshape", mixed, shape), 24, 24)


def _packed(b: Net) -> str:
    y = b.op("Reshape", b.linear("x", 24, 72), b.ints(0, 0, 3, 4, 6))
    y = b.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.op("Gather", y, b.constant(f"at{at}", np.int64(at)), axis=0) for at in range(3))
    mixed = _attend(b, q, b.op("Transpose", k, perm=[0, 1, 3, 2]), v)
    mixed = b.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return b.linear(b.op("Reshape", mixed, b.ints(0, 0, 24)), 24, 24)


def _operator(b: Net) -> str:
    q, k, v = b.linear("x", 24, 24), b.linear("x", 24, 12), b.linear("x", 24, 12)
    return b.linear(b.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2), 24, 24)


def _einsum(b: Net) -> str:
    q, k, v = (
        b.op("Einsum", "x", b.weight(f"w{at}", 24, 4, 6, scale=0.2), equation="blc,chd->bhld")
        for at in range(3)
    )
    mixed = _attend(b, q, b.op("Transpose", k, perm=[0, 1, 3, 2]), v)
    return b.op("Einsum", mixed, b.weight("out", 4, 6, 24, scale=0.2), equation="bhld,hdc->blc")


def unknown() -> onnx.ModelProto:
    """Channels that an operator without a rule, or a subgraph, reads; and one group that neither touches."""
    b = Net()
    first = b.op("Relu", b.conv("x", 3, 8))
    inner = helper.make_graph(
        [helper.make_node("Neg", [first], ["inner"])],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", F, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", [first], ["other"])],
        "other",
        [],
        [helper.make_tensor_value_info("other", F, None)],
    )
    condition = b.constant("condition", np.array(True))
    chosen = b.op("If", condition, then_branch=inner, else_branch=other)
    x = b.op("LpNormalization", b.conv(chosen, 8, 6), axis=1)
    b.classes(b.op("Relu", b.conv(x, 6, 10)), 10)
    return b.done()


CHANNEL_NETWORKS = {
    "cnn": cnn,
    "transformer": transformer,
    "residual": residual,
    "dense_block": dense_block,
    "gated": gated,
    "uneven": uneven,
    "grouped": grouped,
    "decoder": decoder,
    "flattened": flattened,
    "flattened_last": lambda: flattened(last=True),
    "shuffled": shuffled,
    "encoder_chain": lambda: encoder("chain"),
    "encoder_packed": lambda: encoder("packed"),
    "encoder_operator": lambda: encoder("operator"),
    "encoder_einsum": lambda: encoder("einsum"),
    "unknown": unknown,
}
