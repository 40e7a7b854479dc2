"""Random weights by role: nothing of the training is left, and signals keep their size."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compression.engine import Engine, Role, normalise
from compression.engine.initialization import initialise
from compression.model import Model
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.conftest import EXAMPLES
from tests.compression.networks import lstm, transformer

IMAGES = {"image": torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (16, 1, 28, 28))).float()}


def example() -> Model:
    return normalise(Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx")))


def stored(model: Model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}


def test_every_weight_is_drawn_and_every_bias_is_zero() -> None:
    before = example()
    after, roles = initialise(before, 0), Engine.from_model(before).roles
    for name, values in stored(after).items():
        if roles[name] is Role.WEIGHT:
            assert abs(np.corrcoef(values.ravel(), stored(before)[name].ravel())[0, 1]) < 0.3
        elif roles[name] is Role.BIAS:
            assert not values.any()
    assert stored(after)["stages.5.first.0.weight"].std() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_same_seed_same_bytes() -> None:
    first, second, other = (
        initialise(example(), seed, IMAGES).proto.SerializeToString() for seed in (0, 0, 1)
    )
    assert first == second != other


def test_outputs_of_every_layer_have_unit_variance_whatever_the_scale_of_the_data() -> None:
    model = initialise(example(), 0, IMAGES)
    layers = [node.output[0] for node in model.proto.graph.node if node.op_type in {"Conv", "Gemm"}]
    with torch.no_grad():
        outputs = Engine.from_model(model, layers).eval()(IMAGES)
    for layer in layers:
        assert float(outputs[layer].std()) == pytest.approx(1, abs=0.01), layer


@pytest.mark.parametrize("network", ["grouped", "decoder", "flattened", "encoder_einsum", "unknown"])
def test_every_operator_of_the_networks(network: str) -> None:
    """Grouped and transposed convolutions, einsum, Gemm with transB, PRelu, norms, subgraphs."""
    model = normalise(Model(CHANNEL_NETWORKS[network]()))
    roles, after = Engine.from_model(model).roles, initialise(model, 3)
    for name, values in stored(after).items():
        if roles[name] is Role.WEIGHT:
            assert 0.05 < values.std() < 1.5, name
            assert np.isfinite(values).all()
    x = torch.randn(2, *((7, 24) if network.startswith("encoder") else (3, 8, 8)))
    assert torch.isfinite(Engine.from_model(after).eval()(x=x)["y"]).all()


def test_recurrent_weights_are_bounded_and_embeddings_keep_their_scale() -> None:
    weights = stored(initialise(normalise(Model(lstm(size=24))), 0))
    for name in ("lstm.W", "lstm.R", "lstm.B"):
        assert 0.19 < np.abs(weights[name]).max() <= 24**-0.5
    model = normalise(Model(transformer()))
    before, after = stored(model)["embedding"], stored(initialise(model, 0))["embedding"]
    assert after.std() == pytest.approx(before.std(), rel=0.1)
    assert not np.array_equal(before, after)
