from pathlib import Path
from typing import Any

import numpy as np
import onnx
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
    assert found.operators == {"Add": 2, "Gather": 1, "MatMulNBits": 3, "Relu": 1}
    assert found.traits == {Trait.QUANTIZED}
    assert found.params == before.inspect().params + CLASSES * HIDDEN, "the table is looked up in floats"
    assert before.size > 2 * made.model.size
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


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq"])
def test_eight_bits_are_close(method: str, tmp_path: Path) -> None:
    made = quantize(dense(), tmp_path, method=method, bits=8, accuracy_level=1).model
    assert noise(dense(), made) < 0.01


def test_gptq_loses_less_than_rounding_to_nearest(tmp_path: Path) -> None:
    rtn, gptq = (
        quantize(dense(), tmp_path, method=method, accuracy_level=1, block_size=128).model
        for method in ("rtn", "gptq")
    )
    assert noise(dense(), gptq) < 0.8 * noise(dense(), rtn)


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
    assert not WeightQuantization(method="hqq").required()
    with pytest.raises(CompressionError, match="rtn and hqq do not"):
        WeightQuantization().apply(dense(), Context(None, 0, tmp_path))


def test_eight_bits_without_a_fast_kernel_are_refused() -> None:
    with pytest.raises(ValidationError, match="take 4"):
        WeightQuantization(bits=8, accuracy_level=0)


@pytest.mark.parametrize("trait", Trait)
def test_what_is_no_float32_is_refused_with_a_way_out(trait: Trait) -> None:
    found = dense().inspect().model_copy(update={"traits": frozenset({trait})})
    assert "original" in str(WeightQuantization().check(found))
