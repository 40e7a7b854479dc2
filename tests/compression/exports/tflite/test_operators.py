import numpy as np
import onnx
import pytest

from tests.compression.exports.tflite.conftest import Compare, Weights, graph

K3, K = (8, 6, 3, 3), {"w": (8, 6, 3, 3), "b": (8,)}
UP = {"none": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


IMAGES: dict[str, tuple[str, Weights]] = {
    "conv": ("y = Conv (x, w, b)", K),
    "conv_same": ("y = Conv <pads = [1, 1, 1, 1]> (x, w, b)", K),
    "conv_strided": ("y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)", K),
    "conv_uneven": ("y = Conv <pads = [2, 0, 1, 1]> (x, w, b)", K),
    "computed_from_constants": ("w = Neg (v) y = Conv (x, w)", {"v": K3}),
    "conv_dilated": ("y = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)", {"w": K3}),
    "conv_rectangular": ("y = Conv <pads = [0, 2, 0, 2], strides = [1, 2]> (x, w)", {"w": (8, 6, 1, 5)}),
    "conv_same_upper": ('y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)', {"w": K3}),
    "conv_same_lower": ('y = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, w)', {"w": (8, 6, 4, 4)}),
    "conv_grouped": ("y = Conv <group = 2, pads = [1, 1, 1, 1]> (x, w)", {"w": (8, 3, 3, 3)}),
    "depthwise": ("y = Conv <group = 6, pads = [1, 1, 1, 1]> (x, w)", {"w": (6, 1, 3, 3)}),
    "depthwise_multiplied": ("y = Conv <group = 6, strides = [2, 2]> (x, w)", {"w": (12, 1, 3, 3)}),
    "relu_fused": ("c = Conv (x, w, b) y = Relu (c)", K),
    "relu6_fused": (
        "c = Conv (x, w, b) y = Clip (c, low, high)",
        {**K, "low": np.float32(0), "high": np.float32(6)},
    ),
    "relu_of_two_readers": ("c = Conv (x, w, b) r = Relu (c) y = Add (c, r)", K),
    "conv_transpose": (
        "y = ConvTranspose <strides = [2, 2]> (x, v, c)",
        {"v": (6, 4, 2, 2), "c": (4,)},
    ),
    "conv_transpose_overlapping": (
        "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, v)",
        {"v": (6, 4, 3, 3)},
    ),
    "conv_transpose_uneven": (
        "y = ConvTranspose <strides = [3, 3], pads = [0, 2, 1, 0]> (x, v)",
        {"v": (6, 4, 4, 5)},
    ),
    "conv_transpose_of_stride_one": ("y = ConvTranspose (x, v)", {"v": (6, 4, 3, 3)}),
    "max_pool": ("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", {}),
    "max_pool_bordered": (
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
        {},
    ),
    "max_pool_rounded_up": ("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)", {}),
    "average_pool": ("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", {}),
    "average_pool_rounded_up": (
        "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)",
        {},
    ),
    "average_pool_with_borders": (
        "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
        {},
    ),
    "global_average_pool": ("y = GlobalAveragePool (x)", {}),
    "global_max_pool": ("y = GlobalMaxPool (x)", {}),
    "mean": ("y = ReduceMean <axes = [2, 3], keepdims = 0> (x)", {}),
    "mean_of_channels": ("c = Conv (x, w, b) y = ReduceMean <axes = [1], keepdims = 0> (c)", K),
    "sum": ("y = ReduceSum <keepdims = 0> (x, axes)", {"axes": ints(1, 3)}),
    "largest": ("y = ReduceMax <axes = [2, 3]> (x)", {}),
    "batch_normalization": (
        "y = BatchNormalization (x, s, b, m, v)",
        {"s": (6,), "b": (6,), "m": (6,), "v": np.linspace(0.1, 1, 6, dtype=np.float32)},
    ),
    "layer_normalization": (
        "y = LayerNormalization <epsilon = 1e-6> (x, s, b)",
        {"s": (9,), "b": (9,)},
    ),
    "layer_normalization_of_axes": ("y = LayerNormalization <axis = 2> (x, s)", {"s": (9, 9)}),
    "layer_normalization_of_channels": (
        (
            "c = Conv (x, w, b) t = Transpose <perm = [0, 2, 3, 1]> (c) n = LayerNormalization (t, s, b) "
            "m = MatMul (n, v) g = Sigmoid (m) y = Transpose <perm = [0, 3, 1, 2]> (g)"
        ),
        {**K, "s": (8,), "v": (8, 12)},
    ),
    "hard_sigmoid": ("y = HardSigmoid (x)", {}),
    "leaky_relu": ("y = LeakyRelu <alpha = 0.1> (x)", {}),
    "clip": ("y = Clip (x, a, b)", {"a": np.float32(-0.3), "b": np.float32(0.4)}),
    "clip_below": ("y = Clip (x, a)", {"a": np.float32(-0.3)}),
    "softmax_of_channels": ("y = Softmax <axis = 1> (x)", {}),
    "log_softmax": ("y = LogSoftmax <axis = 2> (x)", {}),
    "add_channels": ("c = Conv (x, w, b) y = Add (c, k)", {**K, "k": (8, 1, 1)}),
    "subtract_row": ("c = Conv (x, w, b) y = Sub (k, c)", {**K, "k": (7,)}),
    "multiply": ("y = Mul (x, k)", {"k": np.float32(2)}),
    "divide": ("y = Div (x, k)", {"k": np.float32(2)}),
    "power": ("y = Pow (x, k)", {"k": np.float32(2)}),
    "larger": ("y = Max (x, k)", {"k": np.float32(0.2)}),
    "gate": (
        "c = Conv (x, w, b) p = GlobalAveragePool (c) g = Conv (p, v) s = Sigmoid (g) y = Mul (s, c)",
        {**K, "v": (8, 8, 1, 1)},
    ),
    "flatten_after_conv": ("c = Conv (x, w, b) y = Flatten (c)", K),
    "reshape": ("y = Reshape (x, s)", {"s": ints(0, 2, 3, 81)}),
    "reshape_by_shape": (
        (
            "s = Shape (x) n = Gather <axis = 0> (s, zero) m = Unsqueeze (n, axes) "
            "t = Concat <axis = 0> (m, rest) y = Reshape (x, t)"
        ),
        {"zero": np.array(0), "axes": ints(0), "rest": ints(-1)},
    ),
    "squeeze": ("p = GlobalAveragePool (x) y = Squeeze (p, axes)", {"axes": ints(2, 3)}),
    "unsqueeze": ("y = Unsqueeze (x, axes)", {"axes": ints(1)}),
    "transposes_around_conv": (
        (
            "c = Conv (x, w, b) t = Transpose <perm = [0, 2, 3, 1]> (c) r = Neg (t) "
            "u = Transpose <perm = [0, 3, 1, 2]> (r) y = Conv (u, v)"
        ),
        {**K, "v": (4, 8, 3, 3)},
    ),
    "concat": ("c = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = Concat <axis = -3> (x, c)", K),
    "pad": ("y = Pad (x, p)", {"p": ints(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad_with": ("y = Pad (x, p, v)", {"p": ints(0, 0, 1, 2, 0, 0, 3, 0), "v": np.float32(1.5)}),
    "nearest": ("y = Resize (x, none, scales)", UP),
    "nearest_asymmetric": (
        (
            'y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
            " (x, none, scales)"
        ),
        UP,
    ),
    "bilinear": ('y = Resize <mode = "linear"> (x, none, scales)', UP),
    "bilinear_corners": (
        'y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, none, scales)',
        UP,
    ),
    "slice": ("y = Slice (x, s, e, a)", {"s": ints(1, 2), "e": ints(-1, 2**62), "a": ints(2, 1)}),
    "slice_from_end": (
        "y = Slice (x, s, e, a, t)",
        {"s": ints(-3), "e": ints(9), "a": ints(1), "t": ints(2)},
    ),
    "split": ("a, b = Split <axis = 1> (x) y = Sub (a, b)", {}),
    "gather_one": ("y = Gather <axis = 1> (x, i)", {"i": np.array(2)}),
    "gather_from_end": ("y = Gather <axis = 2> (x, i)", {"i": ints(-1, 0)}),
    "depth_to_space": ("c = Conv (x, w, b) y = DepthToSpace <blocksize = 2> (c)", K),
    "matmul": ("y = MatMul (x, w)", {"w": (9, 5)}),
    "matmul_computed": ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul (x, t)", {}),
    "matmul_computed_and_relu": (
        "t = Transpose <perm = [0, 1, 3, 2]> (x) m = MatMul (x, t) y = Relu (m)",
        {},
    ),
    "matmul_of_many": ("y = MatMul (x, w)", {"w": (6, 9, 5)}),
    "identity": ("y = Identity (x)", {}),
} | {
    kind: (f"y = {kind} (x)", {})
    for kind in (
        "Abs",
        "Ceil",
        "Cos",
        "Elu",
        "Exp",
        "Floor",
        "HardSwish",
        "Neg",
        "Relu",
        "Sigmoid",
        "Sin",
        "Tanh",
    )
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(case: str, compare: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((3, 6, 9, 9), np.float32)
    assert compare(graph(*IMAGES[case], "n, 6, 9, 9"), x) < 1e-5


OPEN_IMAGES = [
    "conv",
    "conv_same",
    "conv_strided",
    "max_pool_bordered",
    "average_pool",
    "gate",
    "global_max_pool",
    "conv_transpose_uneven",
    "nearest",
    "nearest_asymmetric",
]


@pytest.mark.parametrize("case", OPEN_IMAGES)
def test_height_and_width_may_be_open(case: str, compare: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((2, 6, 8, 13), np.float32)
    assert compare(graph(*IMAGES[case], "n, 6, h, w"), x) < 1e-5


SERIES: dict[str, tuple[str, Weights]] = {
    "conv": ("y = Conv <pads = [1, 1], strides = [2]> (x, w, b)", {"w": (8, 6, 3), "b": (8,)}),
    "depthwise": ("y = Conv <group = 6, pads = [2, 2], dilations = [2]> (x, w)", {"w": (6, 1, 3)}),
    "max_pool": ("y = MaxPool <kernel_shape = [3], strides = [2], pads = [1, 1]> (x)", {}),
    "average_pool": ("y = AveragePool <kernel_shape = [2], strides = [2]> (x)", {}),
    "global_average_pool": ("c = Conv (x, w) r = Relu (c) y = GlobalAveragePool (r)", {"w": (8, 6, 3)}),
}


@pytest.mark.parametrize("case", SERIES)
@pytest.mark.parametrize("shape", ["n, 6, 20", "n, 6, t"])
def test_series(case: str, shape: str, compare: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((3, 6, 20), np.float32)
    assert compare(graph(*SERIES[case], shape), x) < 1e-5


GEMMS: dict[str, tuple[str, Weights]] = {
    "scaled": ("y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b)", {"w": (9, 5), "b": (5,)}),
    "transposed": ("y = Gemm <transB = 1> (x, w, b)", {"w": (5, 9), "b": (1, 5)}),
    "without_bias": ("g = Gemm (x, w) y = Relu (g)", {"w": (9, 5)}),
}


@pytest.mark.parametrize("case", GEMMS)
def test_matrix_products(case: str, compare: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((3, 9), np.float32)
    assert compare(graph(*GEMMS[case], "n, 9"), x) < 1e-5


def test_gelu(compare: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((3, 9), np.float32)
    assert compare(graph("y = Gelu (x)", {}, "n, 9", opset=20), x) < 1e-5
    assert compare(graph('y = Gelu <approximate = "tanh"> (x)', {}, "n, 9", opset=20), x) < 1e-5


def test_outputs_may_be_the_input_and_each_other(compare: Compare) -> None:
    model = graph("y = Relu (x) z = Identity (y)", {}, "n, 4")
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 4]))
    assert compare(model, np.array([[1, -1, 2, -2]], np.float32)) == 0
