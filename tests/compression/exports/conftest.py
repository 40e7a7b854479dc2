"""A convolutional network, the same in int8, and a perceptron, as the service would have them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compression.dataset import Dataset
from compression.formats import load_dataset, load_model
from compression.model import Model
from compression.technique import Context
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import arrays, network
from tests.compression.networks import Builder, F

Models = dict[str, Path]


def perceptron() -> onnx.ModelProto:
    b = Builder(3)
    hidden = b.node("Gemm", ["features", b.weight("w1", 24, 16), b.weight("b1", 24)], "hidden", transB=1)
    active = b.node("Relu", [hidden], "active")
    product = b.node("MatMul", [active, b.weight("w2", 24, 5)], "product")
    b.node("Add", [product, b.weight("b2", 5)], "score")
    features = onnx.helper.make_tensor_value_info("features", F, ["batch", 16])
    return b.model([features], [onnx.helper.make_tensor_value_info("score", F, ["batch", 5])])


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    for name, proto in (("cnn", network("cnn")), ("mlp", perceptron())):
        onnx.save(proto, folder / "upload")
        load_model(folder / "upload", "model.onnx", folder / f"{name}.onnx", folder)
    np.savez(folder / "upload.npz", **arrays("cnn"))  # type: ignore[arg-type]
    load_dataset(folder / "upload.npz", "data.npz", folder / "data.npz", folder)
    context = Context(Dataset.open(folder / "data.npz"), 0, folder)
    made = StaticQuantization(keep="none").apply(Model.open(folder / "cnn.onnx"), context)
    made.model.save(folder / "int8.onnx")
    return {name: folder / f"{name}.onnx" for name in ("cnn", "int8", "mlp")}
