from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.exports.tflite.convert import convert
from compression.inspection import Trait
from compression.model import Model
from compression.technique import Applied, Context, Need
from compression.techniques.weight_quantization import WeightQuantization
from tests.compression.networks import Builder, transformer

INPUTS, HIDDEN, CLASSES = 72, 96, 40


def dense() -> Model:
    """Gemms of either layout with a bias, a product, and a table that is read transposed and looked up."""
    b = Builder(5)
    x = b.node("Gemm", ["x", b.weight("a", HIDDEN, INPUTS), b.weight("a.bias", HIDDEN)], "first", transB=1)
    x = b.node("Relu", [x], "relu")
    x = b.node("Gemm", [x, b.weight("b", HIDDEN, HIDDEN), b.weight("b.bias", HIDDEN)], "second")
    turned = b.node("Transpose", [b.weight("c", CLASSES, HIDDEN)], "turned", perm=[1, 0])
    b.node("MatMul", [x, turned], "scores")
    b.node("Gather", ["c", b.constant("row", np.array(3))], "looked_up")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES]),
        helper.make_tensor_value_info("looked_up", TensorProto.FLOAT, [HIDDEN]),
    ]
    return Model(b.model([given], outputs))


def rows() -> Dataset:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((INPUTS, INPUTS))
    return Dataset({"calibration/x": (random.standard_normal((200, INPUTS)) @ mixing).astype(np.float32)}, 0)


def quantize(model: Model, folder: Path, **step: Any) -> Applied:
    return WeightQuantization.model_validate(step).apply(model, Context(rows(), 0, folder))


def scores(model: Model) -> np.ndarray:
    split = rows().splits["calibration"]
    return next(runtime.run_split(runtime.session(model.proto), split, model.inputs))["scores"]


def noise(model: Model, made: Model) -> float:
    before = scores(model)
    return float(np.linalg.norm(scores(made) - before) / np.linalg.norm(before))


def test_every_matrix_becomes_a_blocked_product_and_the_file_shrinks(tmp_path: Path) -> None:
    before = dense()
    made = quantize(before, tmp_path)
    found = made.model.inspect()
    assert found.operators == {
        "Add": 2,
        "GatherBlockQuantized": 1,
        "MatMulNBits": 3,
        "Relu": 1,
        "Reshape": 1,
    }
    assert found.traits == {Trait.QUANTIZED}
    assert found.params == before.inspect().params
    assert before.size > 3.5 * made.model.size
    assert noise(before, made.model) < 0.15
    assert list(made.details["layer_error"]) == ["first", "second", "scores"]


def test_tables_become_int8_unless_they_are_kept(tmp_path: Path) -> None:
    model = Model(transformer())
    tokens = np.random.default_rng(0).integers(0, 50, (30, 9))
    context = Context(Dataset({"calibration/tokens": tokens}, 0), 0, tmp_path)
    made = WeightQuantization(bits=8).apply(model, context)
    assert made.details["embeddings"] == ["embedding"]
    assert made.model.initializer("embedding_int8").dtype == np.int8
    before, after = (
        runtime.run(runtime.session(one.proto), {"tokens": tokens}) for one in (model, made.model)
    )
    difference = np.linalg.norm(after["logits"] - before["logits"])
    assert difference < 0.03 * np.linalg.norm(before["logits"])
    kept = WeightQuantization(bits=8, embeddings=False).apply(model, context).model
    assert np.array_equal(kept.initializer("embedding"), model.initializer("embedding"))


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq", "awq"])
def test_eight_bits_are_close(method: str, tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path, method=method, bits=8, accuracy_level=1).model
    assert noise(dense(), made) < 0.01


def test_gptq_loses_less_than_rounding_to_nearest(tmp_path: Path) -> None:
    rtn, gptq = (
        quantize(dense(), tmp_path, method=method, accuracy_level=1, block_size=128).model
        for method in ("rtn", "gptq")
    )
    assert noise(dense(), gptq) < 0.8 * noise(dense(), rtn)


def test_a_table_that_is_the_output_head_too_is_stored_once(tmp_path: Path) -> None:
    before = dense()
    made = quantize(before, tmp_path, method="rtn")
    assert made.details["tied"] == ["c"]
    assert made.details["bits"] == {"first": 4, "second": 4, "scores": 8}
    assert made.model.initializer("c_8bit").shape == (CLASSES, HIDDEN)
    row, original = looked_up(made.model), before.initializer("c")[3]
    assert np.abs(row - original).max() < 0.01 * np.abs(original).max()
    restored = quantize(before, tmp_path, method="rtn", table_bits=4).model
    assert restored.initializer("c_4bit").shape == (CLASSES, HIDDEN // 2)
    assert np.abs(looked_up(restored) - original).max() < 0.2 * np.abs(original).max()
    assert noise(before, restored) < 0.2


def looked_up(model: Model) -> np.ndarray:
    split = rows().splits["calibration"]
    return next(runtime.run_split(runtime.session(model.proto), split, model.inputs))["looked_up"]


@pytest.mark.parametrize("step", [{"exclude": ["c"]}, {"embeddings": False}])
def test_a_tied_table_can_stay(step: dict[str, Any], tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path, method="rtn", **step)
    assert made.details["tied"] == []
    assert np.array_equal(made.model.initializer("c"), dense().initializer("c"))


def test_a_table_whose_rows_are_no_whole_blocks_is_stored_twice(tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path, method="rtn", block_size=64)
    assert made.details["tied"] == []
    assert made.details["embeddings"] == ["c"]
    assert made.model.initializer("c_int8").dtype == np.int8


def test_awq_loses_less_than_rounding_to_nearest_where_inputs_are_salient(tmp_path: Path) -> None:
    rtn, awq = (quantize(salient(), tmp_path, method=method, accuracy_level=1) for method in ("rtn", "awq"))
    assert noise(salient(), awq.model) < 0.7 * noise(salient(), rtn.model)
    folded = {row["tensor"]: row["folded"] for row in awq.details["scaled"]}
    assert folded == {"normalised": True, "squashed": False}
    assert awq.model.inspect().operators["Mul"] == 1


def salient() -> Model:
    """Layers that read a normalisation and a Tanh, some of whose channels are far larger than others."""
    b = Builder(3)
    gains = np.where(np.arange(INPUTS) % 9, 0.1, 8).astype(np.float32)
    scale, shift = b.constant("gains", gains), b.constant("shift", np.zeros(INPUTS, np.float32))
    x = b.node("LayerNormalization", ["x", scale, shift], "normalised")
    own = b.random.standard_normal((INPUTS, HIDDEN)) * np.where(np.arange(HIDDEN) % 12, 0.003, 0.3)
    x = b.node("MatMul", [x, b.constant("a", own.astype(np.float32))], "first")
    x = b.node("Tanh", [x], "squashed")
    b.node("MatMul", [x, b.weight("b", HIDDEN, CLASSES)], "scores")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])
    return Model(b.model([given], [output]))


def test_bits_are_mixed_within_the_budget(tmp_path: Path) -> None:
    plain, mixed, whole = (
        quantize(dense(), tmp_path, accuracy_level=1, embeddings=False, average_bits=average)
        for average in (None, 6, 8)
    )
    sizes = {"first": INPUTS * HIDDEN, "second": HIDDEN**2, "scores": CLASSES * HIDDEN}
    assert set(plain.details["bits"].values()) == {4}
    assert set(mixed.details["bits"].values()) == {4, 8}
    assert set(whole.details["bits"].values()) == {8}
    spent = sum(sizes[name] * bits for name, bits in mixed.details["bits"].items())
    assert spent <= 6 * sum(sizes.values())
    noises = [noise(dense(), made.model) for made in (whole, mixed, plain)]
    assert noises == sorted(noises)
    assert plain.model.size < mixed.model.size < whole.model.size
    found = {attribute_of(node, "bits") for node in mixed.model.proto.graph.node} - {None}
    assert found == {4, 8}


def attribute_of(node: onnx.NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), None)


@pytest.mark.parametrize("bits", [4, 8])
def test_qdq_is_standard_and_computes_the_same(bits: int, tmp_path: Path) -> None:
    before = dense()
    product, standard = (
        quantize(before, tmp_path, bits=bits, format=written, embeddings=False, accuracy_level=1).model
        for written in ("matmul_nbits", "qdq")
    )
    assert {node.domain for node in standard.proto.graph.node} == {""}
    assert standard.opset == 21
    onnx.checker.check_model(standard.proto, full_check=True)
    assert standard.inspect().traits == {Trait.QUANTIZED}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(standard.serialized, options, providers=["CPUExecutionProvider"])
    given = rows().splits["calibration"].arrays["x"][:64]
    assert plain.run(["scores"], {"x": given})[0] == pytest.approx(scores(product), abs=1e-3)
    assert before.size > (1.2 if bits == 8 else 1.4) * standard.size
    kind = TensorProto.UINT4 if bits == 4 else TensorProto.UINT8
    assert standard.initializers["first_weight_4bit" if bits == 4 else "first_weight_8bit"].data_type == kind


@pytest.mark.parametrize("bits", [4, 8])
def test_the_runtime_computes_qdq_from_blocks(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "optimised.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    source = quantize(salient(), tmp_path, format="qdq", bits=bits).model.serialized
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("MatMulNBits") == 2
    assert "DequantizeLinear" not in operators


def test_excluded_matrices_stay(tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path, exclude=["first"]).model
    assert np.array_equal(made.initializer("a"), dense().initializer("a"))
    with pytest.raises(CompressionError) as caught:
        quantize(dense(), tmp_path, exclude=["first", "second", "scores"])
    assert caught.value.code == "nothing_to_quantize"


def test_names_shapes_and_the_given_model_stay(tmp_path: Path) -> None:
    model = Model(transformer())
    before = model.serialized
    data = {"calibration/tokens": np.random.default_rng(0).integers(0, 50, (30, 9))}
    made = WeightQuantization().apply(model, Context(Dataset(data, 0), 0, tmp_path)).model
    onnx.checker.check_model(made.proto)
    assert model.serialized == before
    assert (made.inputs, made.outputs) == (model.inputs, model.outputs)


def test_litert_refuses_the_product_by_name(tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path).model
    with pytest.raises(CompressionError, match="MatMulNBits") as caught:
        convert(made.proto, "LiteRT")
    assert caught.value.code == "format_unsupported"


def test_data_are_needed_for_gptq_only(tmp_path: Path) -> None:
    assert WeightQuantization().required() == {Need.CALIBRATION}
    assert WeightQuantization(method="awq").required() == {Need.CALIBRATION}
    assert not WeightQuantization(method="hqq").required()
    with pytest.raises(CompressionError, match="rtn and hqq do not"):
        WeightQuantization().apply(dense(), Context(None, 0, tmp_path))


def test_eight_bits_without_a_fast_kernel_are_refused() -> None:
    with pytest.raises(ValidationError, match="take 4"):
        WeightQuantization(bits=8, accuracy_level=0)


def test_eight_bits_for_all_leave_nothing_to_mix() -> None:
    with pytest.raises(ValidationError, match="goes with 4 bits"):
        WeightQuantization(bits=8, average_bits=6)


@pytest.mark.parametrize("trait", Trait)
def test_what_is_no_float32_is_refused_with_a_way_out(trait: Trait) -> None:
    found = dense().inspect().model_copy(update={"traits": frozenset({trait})})
    assert "original" in str(WeightQuantization().check(found))
