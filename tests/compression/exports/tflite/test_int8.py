from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from compression.errors import CompressionError
from compression.graph import order, packing
from tests.compression.exports.conftest import Models
from tests.compression.exports.tflite.conftest import Array, Compare, Weights, graph, written

CONV = "c = Conv <pads = [1, 1, 1, 1]> (x, w, b)"
K = {"w": (8, 6, 3, 3), "b": (8,)}
UP = {"none": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
KERNELS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


class Rows(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: Array) -> None:
        self.rows: Iterator[dict[str, Array]] = iter([{"x": x}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.rows, None)


def kernels(model: onnx.ModelProto) -> dict[str, str]:
    """Of the file: what each reads first."""
    file = schema.ModelT.InitFromPackedBuf(written(model))
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    main = file.subgraphs[0]
    return {
        KERNELS[file.operatorCodes[step.opcodeIndex].builtinCode]: types[main.tensors[step.inputs[0]].type]
        for step in main.operators
    }


def quantized(model: onnx.ModelProto, x: Array, folder: Path, **options: bool) -> onnx.ModelProto:
    """By ONNX Runtime's own quantizer: U8 activations, S8 weights, a scale for each output."""
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Rows(x),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ForceQuantizeNoInputCheck": True, **options},
    )
    return onnx.load(folder / "int8.onnx")


CASES: dict[str, tuple[str, Weights, str]] = {
    "conv": ("y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)", K, "CONV_2D"),
    "relu": (f"{CONV} y = Relu (c)", K, "CONV_2D"),
    "depthwise": ("y = Conv <group = 6> (x, w)", {"w": (12, 1, 3, 3)}, "DEPTHWISE_CONV_2D"),
    "grouped": ("y = Conv <group = 2> (x, w)", {"w": (8, 3, 3, 3)}, "CONV_2D"),
    "max_pool": (
        f"{CONV} y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (c)",
        K,
        "MAX_POOL_2D",
    ),
    "average_pool": (
        f"{CONV} y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)",
        K,
        "AVERAGE_POOL_2D",
    ),
    "global_average_pool": (f"{CONV} y = GlobalAveragePool (c)", K, "MEAN"),
    "sigmoid": (f"{CONV} y = Sigmoid (c)", K, "LOGISTIC"),
    "softmax": (f"{CONV} y = Softmax <axis = 1> (c)", K, "SOFTMAX"),
    "leaky_relu": (f"{CONV} y = LeakyRelu <alpha = 0.1> (c)", K, "LEAKY_RELU"),
    "add": (f"{CONV} d = Conv <pads = [1, 1, 1, 1]> (x, v) y = Add (c, d)", {**K, "v": (8, 6, 3, 3)}, "ADD"),
    "mul": (f"{CONV} d = Conv <pads = [1, 1, 1, 1]> (x, v) y = Mul (c, d)", {**K, "v": (8, 6, 3, 3)}, "MUL"),
    "concat": (f"{CONV} y = Concat <axis = 1> (c, x)", K, "CONCATENATION"),
    "gemm": (
        f"{CONV} f = Flatten (c) y = Gemm (f, g, h)",
        {**K, "g": (648, 5), "h": (5,)},
        "FULLY_CONNECTED",
    ),
    "matmul": (f"{CONV} f = Flatten (c) y = MatMul (f, g)", {**K, "g": (648, 5)}, "FULLY_CONNECTED"),
    "resize": (f"{CONV} y = Resize (c, none, scales)", {**K, **UP}, "RESIZE_NEAREST_NEIGHBOR"),
    "bilinear": (f'{CONV} y = Resize <mode = "linear"> (c, none, scales)', {**K, **UP}, "RESIZE_BILINEAR"),
    "pad": (f"{CONV} y = Pad (c, p)", {**K, "p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, "PAD"),
    "transpose": (
        f"{CONV} t = Transpose <perm = [0, 2, 3, 1]> (c) y = Reshape (t, s)",
        {**K, "s": np.array([0, 648])},
        "RESHAPE",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_read_codes(case: str, compare: Compare, tmp_path: Path) -> None:
    body, weights, kernel = CASES[case]
    x = np.random.default_rng(0).standard_normal((4, 6, 9, 9), np.float32)
    model = quantized(graph(body, weights, "n, 6, 9, 9"), x, tmp_path)
    assert kernels(model)[kernel] == "INT8"
    assert compare(model, x) < 0.02


def test_series_read_codes(compare: Compare, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 6, 20), np.float32)
    body = "c = Conv <pads = [1, 1]> (x, w, b) y = MaxPool <kernel_shape = [2], strides = [2]> (c)"
    model = quantized(graph(body, {"w": (8, 6, 3), "b": (8,)}, "n, 6, 20"), x, tmp_path)
    assert kernels(model) | {"CONV_2D": "INT8", "MAX_POOL_2D": "INT8", "SQUEEZE": "INT8"} == kernels(model)
    assert compare(model, x) < 0.02


def test_scales_of_inputs_compute_in_floats(compare: Compare) -> None:
    random = np.random.default_rng(2)
    scales = np.linspace(0.01, 0.02, 6, dtype=np.float32)
    weights = {"q": random.integers(-127, 128, (8, 6, 3, 3), np.int8), "s": scales, "z": np.zeros(6, np.int8)}
    model = graph("w = DequantizeLinear <axis = 1> (q, s, z) y = Conv (x, w)", weights, "n, 6, 9, 9")
    assert compare(model, random.standard_normal((2, 6, 9, 9), np.float32)) < 1e-5


def test_many_matrices_compute_in_floats(compare: Compare, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 6, 9, 9), np.float32)
    model = quantized(graph("y = MatMul (x, w)", {"w": (6, 9, 5)}, "n, 6, 9, 9"), x, tmp_path)
    assert kernels(model)["BATCH_MATMUL"] == "FLOAT32"
    assert compare(model, x) < 0.02


def test_an_activation_that_stays_reads_codes(compare: Compare, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 6, 9, 9), np.float32)
    options = {"ActivationSymmetric": True, "QDQKeepRemovableActivations": True}
    model = quantized(graph(f"{CONV} y = Relu (c)", K, "n, 6, 9, 9"), x, tmp_path, **options)
    assert kernels(model)["RELU"] == "INT8"
    assert compare(model, x) < 0.02


def test_what_lies_on_no_grid_computes_in_floats(compare: Compare, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 6, 9, 9), np.float32)
    model = quantized(graph(f"{CONV} y = Exp (c)", K, "n, 6, 9, 9"), x, tmp_path)
    assert kernels(model)["EXP"] == "FLOAT32"
    assert compare(model, x) < 0.02


def test_our_quantization_stays_in_int8_and_small(models: Models) -> None:
    int8 = onnx.load(models["int8"])
    assert {name: kernels(int8)[name] for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN")} == {
        "CONV_2D": "INT8",
        "DEPTHWISE_CONV_2D": "INT8",
        "ADD": "INT8",
        "MEAN": "INT8",
    }
    file = schema.ModelT.InitFromPackedBuf(written(int8))
    weights = [
        t for t in file.subgraphs[0].tensors if file.buffers[t.buffer].data is not None and len(t.shape) > 1
    ]
    large = [tensor for tensor in weights if np.prod(tensor.shape) > 200]
    assert large
    assert {tensor.type for tensor in large} == {schema.TensorType.INT8}


def test_sixteen_bits_are_refused(models: Models) -> None:
    model = onnx.load(models["int8"])
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == quantize.input[2]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(0, np.uint16), tensor.name))
    with pytest.raises(CompressionError, match="grid is not of 8 bits"):
        written(model)


def test_weights_stored_for_floats_stay_in_int8(compare: Compare) -> None:
    """As compression.graph.storage writes them."""
    random = np.random.default_rng(2)
    weights = {
        "q": random.integers(-127, 128, (8, 6, 3, 3), np.int8),
        "s": np.full((8, 1, 1, 1), 0.01, np.float32),
    }
    model = graph("k = Cast <to = 1> (q) w = Mul (k, s) y = Conv (x, w)", weights, "n, 6, 9, 9")
    assert compare(model, random.standard_normal((2, 6, 9, 9), np.float32)) < 1e-5
    assert kernels(model) == {"DEQUANTIZE": "INT8", "TRANSPOSE": "FLOAT32", "CONV_2D": "FLOAT32"}


def test_packed_weights_are_unpacked(compare: Compare) -> None:
    """As compression.graph.packing writes them."""
    random = np.random.default_rng(2)
    weights = {
        "q": random.integers(-7, 8, (32, 6, 3, 3), np.int8),
        "s": np.full(32, 0.01, np.float32),
        "z": np.zeros(32, np.int8),
    }
    model = graph("w = DequantizeLinear <axis = 0> (q, s, z) y = Conv (x, w)", weights, "n, 6, 9, 9")
    whole = len(written(model))
    packing.pack(model.graph, 4)
    assert [node.op_type for node in model.graph.node[2:]] == ["Cast", "Gather", "Reshape"]
    x = random.standard_normal((2, 6, 9, 9), np.float32)
    order.sort(model.graph)
    assert compare(model, x) < 1e-5
    assert len(written(model)) == whole
