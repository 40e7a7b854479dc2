"""What is rounded in an encoder, and what is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compression import runtime
from compression.dataset import Dataset
from compression.graph import placement, qdq
from compression.graph.preparation import prepare
from compression.measure.fidelity import decibels
from compression.model import Model
from compression.technique import Applied, Context
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import Normalise, Pack
from tests.compression.encoders import encoder, texts
from tests.compression.networks import Builder, cnn
from tests.compression.test_static_quantization import mobile

Quantize = Callable[..., Applied]


def sqnr(model: onnx.ModelProto, made: Applied, arrays: dict[str, np.ndarray]) -> float:
    feeds = {name: arrays[f"test/{name}"] for name in ("input_ids", "attention_mask")}
    reference, found = (
        runtime.run(runtime.session(one), feeds)["hidden_state"] for one in (model, made.model.proto)
    )
    noise = np.square(found - reference, dtype=np.float64).sum()
    return decibels(float(np.square(reference, dtype=np.float64).sum()), float(noise))


@pytest.fixture
def quantize(normalise: Normalise, pack: Pack, tmp_path: Path) -> Quantize:
    def apply(model: onnx.ModelProto, **parameters: object) -> Applied:
        technique = StaticQuantization.model_validate({"keep": "none", **parameters})
        context = Context(Dataset.open(pack(texts())), 0, tmp_path)
        return technique.apply(Model.open(normalise(model)), context)

    return apply


def placed(model: onnx.ModelProto, folder: Path) -> set[str]:
    graph = prepare(model, folder).graph
    return set(placement.worth_rounding(graph, qdq.quantizable(graph)))


def operators(model: onnx.ModelProto, folder: Path) -> set[str]:
    graph, names = prepare(model, folder).graph, placed(model, folder)
    return {node.op_type for node in graph.node if node.name in names}


def test_of_an_encoder_only_matrix_products_are_rounded(tmp_path: Path) -> None:
    assert operators(encoder(), tmp_path) == {"MatMul"}


@pytest.mark.parametrize("model", [cnn(), mobile().model], ids=["cnn", "mobile"])
def test_of_a_convolutional_network_everything_is(model: onnx.ModelProto, tmp_path: Path) -> None:
    graph = prepare(model, tmp_path).graph
    assert placed(model, tmp_path) == {node.name for node in qdq.quantizable(graph)}


def test_what_prepares_the_input_of_a_convolution_is_rounded_and_what_a_softmax_reads_is_not(
    tmp_path: Path,
) -> None:
    b = Builder()
    pooled = b.node("MaxPool", ["image"], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    conv = b.node("Conv", [pooled, b.weight("w", 8, 3, 3, 3)], "conv")
    b.node("Softmax", [b.node("Add", [conv, conv], "doubled")], "shares", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])
    out = helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["batch", 8, 4, 4])
    assert placed(b.model([image], [out]), tmp_path) == {"pooled_node", "conv_node"}


def test_products_write_floats_where_floats_are_read(quantize: Quantize) -> None:
    graph = quantize(encoder()).model.proto.graph
    readers = {name: node.op_type for node in graph.node for name in node.input}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert "QuantizeLinear" not in {readers[node.output[0]] for node in products}


@pytest.mark.parametrize("hidden", [-1e4, -3.4028234663852886e38])
def test_a_mask_of_any_size_does_no_harm(hidden: float, quantize: Quantize) -> None:
    model = encoder(hidden, outlier=1.0)
    assert sqnr(model, quantize(model), texts()) > 30


def test_sums_with_a_mask_stay_floats_even_if_asked_for(quantize: Quantize) -> None:
    made = quantize(encoder(-3.4028234663852886e38, outlier=1.0), operators=["MatMul", "Add"])
    assert "masked" in made.details["kept_float"]
    assert "residual" not in made.details["kept_float"]
    assert sqnr(encoder(-3.4028234663852886e38, outlier=1.0), made, texts()) > 25


def test_embeddings_are_stored_as_integers(quantize: Quantize) -> None:
    model = encoder(outlier=1.0)
    made, plain = quantize(model), quantize(model, exclude=["embedded"])
    assert made.details["tables"] == ["words"]
    assert plain.details["tables"] == []
    stored = {tensor.name: tensor for tensor in made.model.proto.graph.initializer}
    assert stored["words_int8"].data_type == TensorProto.INT8
    assert made.model.size < plain.model.size - 50 * 32 * 2
    assert sqnr(model, made, texts()) > 30


def test_a_table_that_something_else_reads_stays(quantize: Quantize) -> None:
    model = encoder(outlier=1.0)
    b = Builder()
    scale = b.node("ReduceMax", ["seen"], "scale", keepdims=0)
    b.node("ReduceMean", [b.node("Mul", ["words", scale], "scaled_words")], "average", keepdims=0)
    b.node("Add", ["hidden_state", "average"], "moved")
    model.graph.node.extend(b.nodes)
    model.graph.output[0].name = "moved"
    assert quantize(model).details["tables"] == []
