"""What an error in a layer does to the outputs, as told from gradients and as measured."""

from pathlib import Path

import numpy as np
import onnx

from compression import runtime
from compression.dataset import Split
from compression.factorization import layers
from compression.factorization.observation import Samples
from compression.factorization.sensitivity import sensitivities
from compression.graph.channels import recording
from compression.model import Model
from tests.compression.channel_networks import Net


def network() -> Model:
    """A convolution whose channels count differently, a second one, and one that nothing comes of."""
    b = Net()
    x = b.conv("x", 3, 6)
    x = b.op("Mul", x, b.constant("gains", np.array([0, 1, 2, 4, 8, 16], np.float32).reshape(6, 1, 1)))
    x = b.conv(b.op("LeakyRelu", x, alpha=0.5), 6, 6)
    b.classes(x, 6)
    b.op("Conv", "x", b.weight("idle", 2, 3, 1, 1))
    return Model(b.done())


def test_channels_of_all_layers_count_as_measured() -> None:
    """Relative to each other: of the level a few random numbers tell little."""
    model = network()
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    found = [
        layer
        for layer in layers.find(model.proto, recording.shapes(model.proto, {"x": x[:1]}))
        if layer.convolves
    ]
    by_name = sensitivities(model, found, Samples(Split({"x": x}, None), 64, 1, Path(), 0))
    told = np.concatenate([by_name[layer.weight] for layer in found])
    noise = np.concatenate([measured(model, layer.node.output[0], x) for layer in found])
    told, noise = told / told.sum(), noise / noise.sum()
    large = noise > 0.01
    assert large.sum() > 5
    np.testing.assert_allclose(told[large], noise[large], rtol=0.4)
    assert told[~large].max() < 0.02
    assert noise[-2:].max() == 0  # the idle one
    assert told[-2:].max() < 1e-9


def measured(model: Model, tensor: str, x: np.ndarray) -> np.ndarray:
    """Share of the outputs' energy that comes of noise of energy 1 at every position, by channel."""
    random = np.random.default_rng(1)
    shape = recording.shapes(model.proto, {"x": x[:1]})[tensor]
    outputs = []
    for channel in (None, *range(shape[1])):
        proto = model.copy()
        noise = np.zeros((len(x), *shape[1:]), np.float32)
        if channel is not None:
            noise[:, channel] = 1e-2 * random.standard_normal((len(x), *shape[2:]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(noise, "noise"))
        for node in proto.graph.node:
            node.input[:] = ["noisy" if name == tensor else name for name in node.input]
        at = next(n for n, node in enumerate(proto.graph.node) if tensor in node.output)
        proto.graph.node.insert(at + 1, onnx.helper.make_node("Add", [tensor, "noise"], ["noisy"]))
        outputs.append(runtime.run(runtime.session(proto), {"x": x})["y"].astype(np.float64))
    clean, *noisy = outputs
    return np.array([np.square(one - clean).sum() for one in noisy]) / np.square(clean).sum() * 1e4


def test_the_same_each_time() -> None:
    model = network()
    x = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    found = layers.find(model.proto, recording.shapes(model.proto, {"x": x[:1]}))
    one, other = (
        sensitivities(model, found, Samples(Split({"x": x}, None), 64, 1, Path(), 3)) for _ in range(2)
    )
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
