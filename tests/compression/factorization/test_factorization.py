"""Factorised networks in ONNX Runtime: exact at full rank, and off by what was promised."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compression import runtime
from compression.dataset import Split
from compression.factorization import layers, observation
from compression.factorization.chains import Form, Method
from compression.factorization.choosing import Network
from compression.factorization.observation import Samples
from compression.factorization.options import Options
from tests.compression.channel_networks import Net
from tests.compression.networks import F

METHODS: tuple[Method, ...] = ("svd", "spatial", "tucker")


def network(model: onnx.ModelProto, arrays: np.ndarray, scratch: Path, **given: Any) -> Network:
    fields = {
        "ratio": 0.5,
        "target": "macs",
        "energy": None,
        "criterion": "layers",
        "methods": METHODS,
        "round_to": 2,
        "faster": False,
    }
    fields |= {"exclude": (), "samples": 64, "forms": None, "training": None}
    samples = Samples(Split({"x": arrays}, None), 64, 1, scratch, 0)
    return Network(model, Options(**{**fields, **given}), samples)  # type: ignore[arg-type]


def images(count: int = 64) -> np.ndarray:
    """Neighbours alike, as in pictures, and channels that go together."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((count, 3, 10, 10)).cumsum(2).cumsum(3)
    return (np.einsum("nchw,dc->ndhw", noise, random.standard_normal((3, 3))) + 1).astype(np.float32)


def convolution(opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    b = Net()
    x = b.node("Conv", ["x", b.weight("w", 8, 3, 3, 3), b.weight("b", 8, scale=0.3)], "made", **attributes)
    b.node("Relu", [x], "y")
    return b.done(("batch", 3, 10, 10), 4, opset)


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"strides": [2, 1], "pads": [0, 1, 2, 1]},
    {"dilations": [1, 2], "pads": [1, 0, 0, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
    {"auto_pad": "VALID"},
]


def outputs(model: onnx.ModelProto, x: np.ndarray, name: str) -> np.ndarray:
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    opened.graph.output.append(onnx.ValueInfoProto(name=name))
    return runtime.run(runtime.session(opened), {"x": x}, [name])[name].astype(np.float64)


@pytest.mark.parametrize("attributes", CONVOLUTIONS)
@pytest.mark.parametrize("form", [Form("spatial", (9,)), Form("tucker", (3, 8)), Form("spatial", (4,))])
def test_a_convolution(attributes: dict[str, Any], form: Form, tmp_path: Path) -> None:
    """Off by what its form promises, padding and strides included; by nothing at full rank."""
    source, x = convolution(**attributes), images()
    looked = network(source, x, tmp_path)
    written = looked.written({"w": form})
    onnx.checker.check_model(written, full_check=True)
    assert "w" not in {tensor.name for tensor in written.graph.initializer}
    before, after = outputs(source, x, "made"), outputs(written, x, "made")
    forms = looked.forms(looked.layers["w"])
    assert forms is not None
    promised = (
        next(loss.error for loss in forms.losses(METHODS) if loss.form == form) if form.ranks == (4,) else 0
    )
    centred = before - before.mean((0, 2, 3), keepdims=True)
    error = np.square(after - before).sum() / np.square(centred).sum()
    assert error == pytest.approx(promised, rel=0.02, abs=1e-9)
    assert promised == 0 or error > 1e-4
    np.testing.assert_allclose((after - before).mean((0, 2, 3)), 0, atol=1e-3)  # the bias takes the shift


def linear(kind: str, **attributes: Any) -> onnx.ModelProto:
    b = Net()
    turned = attributes.get("transB", 0)
    weight = b.weight("w", *((7, 12) if turned else (12, 7)), scale=0.5)
    x = b.op("Relu", "x")
    if kind == "Gemm":
        b.node("Gemm", [x, weight, b.weight("b", 7, scale=0.3)], "y", **attributes)
    else:
        b.node("MatMul", [x, weight], "product")
        b.node("Add", [b.weight("b", 7, scale=0.3), "product"], "y") if kind == "biased" else b.op(
            "Relu", "product"
        )
        b.nodes[-1].output[0] = "y"
    shape = ["batch", 12] if kind == "Gemm" else ["batch", 3, 12]
    x_info = helper.make_tensor_value_info("x", F, shape)
    return b.model([x_info], [helper.make_tensor_value_info("y", F, [*shape[:-1], 7])])


LINEARS = [
    linear("Gemm"),
    linear("Gemm", transB=1, alpha=0.5),
    linear("Gemm", beta=2.0),
    linear("biased"),
    linear("plain"),
]


@pytest.mark.parametrize("source", LINEARS)
@pytest.mark.parametrize("rank", [7, 4])
def test_a_linear_layer(source: onnx.ModelProto, rank: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((64, 12)) @ random.standard_normal((12, 12)) + 1
    if len(source.graph.input[0].type.tensor_type.shape.dim) == 3:
        rows = np.stack([rows, 2 * rows, rows[::-1]], axis=1)
    x = rows.astype(np.float32)
    looked = network(source, x, tmp_path)
    written = looked.written({"w": Form("svd", (rank,))})
    onnx.checker.check_model(written, full_check=True)
    made = "product" if any(node.op_type == "MatMul" for node in source.graph.node) else "y"
    shift = looked.layers["w"].bias is not None
    before, after = outputs(source, x, "y"), outputs(written, x, "y")
    if rank == 7:
        np.testing.assert_allclose(after, before, atol=1e-4)
        return
    before, after = outputs(source, x, made), outputs(written, x, made)
    lost = (after - before).reshape(-1, 7)
    signal = before.reshape(-1, 7)
    if shift:
        lost, signal = lost - lost.mean(0), signal - signal.mean(0)
    forms = looked.forms(looked.layers["w"])
    assert forms is not None
    promised = next(loss.error for loss in forms.losses(METHODS) if loss.form.ranks == (rank,))
    if looked.layers["w"].bias is None:  # an added constant is no part of what the product loses
        product = np.maximum(x, 0).reshape(-1, 12) @ onnx.numpy_helper.to_array(source.graph.initializer[0])
        signal = product
    assert np.square(lost).sum() / np.square(signal).sum() == pytest.approx(promised, rel=0.02)


def test_what_cannot_be_written_as_a_chain_is_no_layer(tmp_path: Path) -> None:
    b = Net()
    x = b.conv("x", 3, 6, group=3)
    shared = b.weight("shared", 6, 6, 3, 3)
    for _ in range(2):
        x = b.op("Conv", x, shared, pads=[1] * 4)
    b.classes(x, 6)
    found = network(b.done(), images()[:, :, :8, :8], tmp_path).layers
    assert set(found) == {"head.weight"}


def test_moments_are_those_of_all_positions_whatever_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, x = convolution(pads=[1] * 4), images(10)
    (layer,) = layers.find(source, {"x": (1, 3, 10, 10), "made": (1, 8, 10, 10), "w": (8, 3, 3, 3)})
    at = observation.place(layer)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27)
    for batch in (16, 3):
        monkeypatch.setattr(observation, "BATCH", batch)
        samples = Samples(Split({"x": x}, None), 10, 1, tmp_path, 0)
        found = observation.observe(source, [at], samples)[at]
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-4)
        np.testing.assert_allclose(found.second, rows.T @ rows / len(rows), rtol=1e-4)


def test_moments_are_summed_in_several_passes_where_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Net()
    x = b.op("Relu", b.conv(b.op("Relu", b.conv("x", 3, 6)), 6, 6))
    b.classes(x, 6)
    source, x = b.done(("batch", 3, 10, 10)), images(8)
    whole = network(source, x, tmp_path)
    monkeypatch.setattr(observation, "AT_ONCE", 1)
    parts = network(source, x, tmp_path)
    for name, layer in whole.layers.items():
        at = observation.place(layer)
        np.testing.assert_array_equal(parts._moments[at].second, whole._moments[at].second)
        assert name
