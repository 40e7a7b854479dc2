from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.dataset import Dataset
from compression.inspection import Trait
from compression.kernels import smoothing
from compression.measure.fidelity import decibels
from compression.model import Model
from compression.technique import Applied, Context, Technique
from compression.techniques.smooth_quantization import SmoothQuantization
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import Normalise, Pack
from tests.compression.encoders import WIDTH, encoder, texts
from tests.compression.networks import Builder

Apply = Callable[..., Applied]
FEEDS = {name: texts()[f"test/{name}"] for name in ("input_ids", "attention_mask")}


@pytest.fixture
def apply(normalise: Normalise, pack: Pack, tmp_path: Path) -> Apply:
    def apply(
        model: onnx.ModelProto | Model, step: type[Technique] = SmoothQuantization, **fields: Any
    ) -> Applied:
        source = model if isinstance(model, Model) else Model.open(normalise(model))
        technique = step.model_validate({"keep": "none", **fields})
        assert technique.check(source.inspect()) is None
        return technique.apply(source, Context(Dataset.open(pack(texts())), 0, tmp_path))

    return apply


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray] = FEEDS) -> np.ndarray:
    (output,) = runtime.run(runtime.session(model, optimise=False), feeds).values()
    return np.asarray(output, np.float64)


def sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    return decibels(float(np.square(reference).sum()), float(np.square(found - reference).sum()))


@pytest.mark.parametrize("outlier", [1.0, 20.0, 100.0])
@pytest.mark.parametrize("scope", ["per_layer", "global"])
def test_the_rewritten_model_computes_the_same(outlier: float, scope: str, apply: Apply) -> None:
    model = encoder(outlier=outlier)
    made = apply(model, quantize=False, scope=scope)
    reference = run(model)
    np.testing.assert_allclose(run(made.model.proto), reference, rtol=0, atol=1e-5 * np.abs(reference).max())
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert Trait.QUANTIZED not in made.model.inspect().traits
    assert SmoothQuantization(quantize=False).traits_after(frozenset()) == frozenset()
    assert SmoothQuantization().traits_after(frozenset()) == {Trait.QUANTIZED}


def test_outliers_cost_static_quantization_much_and_smooth_quantization_little(apply: Apply) -> None:
    model = encoder(outlier=100.0)
    smooth, static = apply(model), apply(model, StaticQuantization)
    reference = run(model)
    found = [sqnr(reference, run(made.model.proto)) for made in (smooth, static)]
    assert found[0] > found[1] + 6
    assert smooth.details["quantized"] == static.details["quantized"]


def test_factors_go_into_the_norm_where_only_layers_read_it_and_into_a_mul_elsewhere(apply: Apply) -> None:
    made = apply(encoder(outlier=100.0), quantize=False)
    folded = {one["tensor"]: one["folded"] for one in made.details["smoothed"]}
    assert folded["entry"] is False  # the residual reads it too
    assert folded["middle"] is True
    before = {t.name: numpy_helper.to_array(t) for t in encoder(outlier=100.0).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in made.model.proto.graph.initializer}
    assert np.ptp(after["middle.scale"]) < np.ptp(before["middle.scale"]) / 3
    np.testing.assert_array_equal(after["entry.scale"], before["entry.scale"])
    assert all(
        one["gained_db"] > 0 and one["alpha"] in (0.4, 0.5, 0.6, 0.7) for one in made.details["smoothed"]
    )


def test_tensors_with_other_values_have_other_names(apply: Apply) -> None:
    graph = apply(encoder(outlier=100.0), quantize=False).model.proto.graph
    names = {name for node in graph.node for name in node.output}
    assert "entry" in names
    assert "middle" not in names


def test_static_quantization_may_follow_the_rewriting(apply: Apply) -> None:
    model = encoder(outlier=100.0)
    rewritten = apply(model, quantize=False).model
    reference, made = run(model), apply(rewritten, StaticQuantization)
    both = sqnr(reference, run(made.model.proto))
    assert both == pytest.approx(sqnr(reference, run(apply(model).model.proto)), abs=3)


def test_where_nothing_sticks_out_nothing_is_changed(apply: Apply) -> None:
    assert apply(encoder(outlier=100.0), alphas=[0.0], quantize=False, exclude=["middle"]).details
    b = Builder(1)
    flat = b.constant("flat.weight", np.where(b.random.random((WIDTH, 8)) < 0.5, -1, 1).astype(np.float32))
    x = b.node("Clip", [b.node("Mul", [b.node("Gather", [b.weight("words", 50, WIDTH), "input_ids"], "x"),
               b.constant("large", np.float32(1e6))], "huge"), b.constant("low", np.float32(-1)),
               b.constant("high", np.float32(1))], "signs")  # fmt: skip
    b.node("MatMul", [x, flat], "out")
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "length", 8])
    assert apply(b.model([ids], [out]), quantize=False).details["smoothed"] == []


def test_exclusions_are_neither_smoothed_nor_quantized(apply: Apply) -> None:
    made = apply(encoder(outlier=100.0), exclude=["wide.product"])
    assert "middle" not in {one["tensor"] for one in made.details["smoothed"]}
    assert "wide.product_node" in made.details["float_layers"]


@pytest.mark.parametrize(
    "head",
    ["gemm", "gemm_transposed", "relu", "constant"],
)
def test_what_comes_before_takes_the_factors(head: str, apply: Apply) -> None:
    """Exactly, whatever it is."""
    b = Builder(2)
    x = b.node("Gather", [b.weight("words", 50, WIDTH, scale=1.0), "input_ids"], "x")
    wide = b.random.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    wide[:, 5] *= 200
    narrow = b.random.standard_normal((WIDTH, 8)).astype(np.float32)
    narrow[5] /= 200
    if head.startswith("gemm"):
        flat = b.node("Reshape", [x, b.constant("rows", np.array([-1, WIDTH]))], "flat")
        turned = head == "gemm_transposed"
        weight = b.constant("wide", wide.T.copy() if turned else wide)
        y = b.node("Gemm", [flat, weight, b.weight("shift", WIDTH)], "y", transB=int(turned))
    else:
        product = b.node("MatMul", [x, b.constant("wide", wide)], "product")
        y = b.node("Add", [b.weight("shift", WIDTH), product], "shifted")
        y = b.node("Relu", [y], "y") if head == "relu" else b.node("Mul", [y, b.weight("gain", WIDTH)], "y")
    b.node("MatMul", [y, b.constant("narrow", narrow)], "out")
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    shape = ["rows", 8] if head.startswith("gemm") else ["batch", "length", 8]
    model = b.model([ids], [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)])
    made = apply(model, quantize=False)
    assert [one["folded"] for one in made.details["smoothed"] if one["tensor"] == "y"] == [True]
    assert "Mul" not in {node.name for node in made.model.proto.graph.node if "smoothed" in node.name}
    feeds = {"input_ids": FEEDS["input_ids"]}
    reference = run(model, feeds)
    found = run(made.model.proto, feeds)
    np.testing.assert_allclose(found, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


def test_a_tensor_that_is_an_output_too_keeps_its_values(apply: Apply) -> None:
    model = encoder(outlier=100.0)
    model.graph.output.append(helper.make_tensor_value_info("middle", TensorProto.FLOAT, ["b", "l", WIDTH]))
    made = apply(model, quantize=False)
    assert [one["folded"] for one in made.details["smoothed"] if one["tensor"] == "middle"] == [False]
    reference, found = (
        runtime.run(runtime.session(one), FEEDS)["middle"] for one in (model, made.model.proto)
    )
    np.testing.assert_allclose(found, reference, atol=1e-3)


def test_a_model_without_matrices_is_refused(apply: Apply, normalise: Normalise) -> None:
    inspection = Model.open(normalise(encoder())).inspect()
    convolutional = inspection.model_copy(update={"operators": {"Conv": 3}})
    assert "static_quantization" in (SmoothQuantization().check(convolutional) or "")
    with pytest.raises(ValueError, match="alphas"):
        SmoothQuantization(alphas=())
    with pytest.raises(ValueError, match="less than or equal to 1"):
        SmoothQuantization(alphas=(1.5,))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 1), dead=st.booleans())
def test_factors_are_positive_and_cancel(seed: int, alpha: float, dead: bool) -> None:
    random = np.random.default_rng(seed)
    rows = (random.standard_normal((20, 6)) * np.geomspace(1e-3, 1e3, 6)).astype(np.float32)
    weight = random.standard_normal((6, 4)).astype(np.float32)
    if dead:
        rows[:, 2] = 0
    by = smoothing.factors(np.abs(rows).max(0), weight, alpha)
    assert (by > 0).all()
    assert by.max() / by.min() <= smoothing.LARGEST * 1.001
    assert not dead or by[2] == 1
    assert np.log(by[by != 1]).mean() == pytest.approx(0, abs=0.7)
    np.testing.assert_allclose((rows / by) @ (weight * by[:, None]), rows @ weight, rtol=1e-4, atol=1e-3)


def test_noise_falls_with_outliers_smoothed() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((64, 16)).astype(np.float32)
    rows[:, 3] *= 100
    weight = random.standard_normal((16, 8)).astype(np.float32)
    weight[3] /= 100
    smoothed, plain = smoothing.noises(rows, np.abs(rows).max(0), weight, (0.5,), (8, 8), 99.99)
    assert smoothed < plain / 10
