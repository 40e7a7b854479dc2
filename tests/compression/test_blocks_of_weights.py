"""Rounding in blocks, beside ONNX Runtime's own quantizer and kernel."""

import numpy as np
import pytest
from onnxruntime.capi._pybind_state import quantize_matmul_4bits

from compression.kernels import activation_scaling, blocks
from compression.weight_only import allocation

OUTPUTS, INPUTS, BLOCK = 24, 128, 32


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((OUTPUTS, INPUTS), np.float32)


def test_packed_as_the_runtime_packs(weight: np.ndarray) -> None:
    count = INPUTS // BLOCK
    integers = np.zeros((OUTPUTS, count, BLOCK // 2), np.uint8)
    scales = np.zeros(OUTPUTS * count, np.float32)
    zeros = np.zeros(OUTPUTS * ((count + 1) // 2), np.uint8)
    quantize_matmul_4bits(
        integers, np.ascontiguousarray(weight.T), scales, zeros, BLOCK, OUTPUTS, INPUTS, False
    )
    found = blocks.nearest(weight, 4, BLOCK)
    assert found.scales.ravel() == pytest.approx(scales, rel=1e-5)
    assert np.array_equal(blocks.packed(found.zero_points, 4).ravel(), zeros)
    own = blocks.packed(found.integers, 4)
    assert (own != integers).mean() < 0.01, "but for ties"


@pytest.mark.parametrize("bits", [4, 8])
def test_nearest_is_within_a_step(weight: np.ndarray, bits: int) -> None:
    found = blocks.nearest(weight, bits, BLOCK)
    steps = found.scales.repeat(BLOCK, 1)
    assert (np.abs(found.restored - weight) <= 1.01 * steps).all()


def test_half_quadratic_lowers_the_mean_error(weight: np.ndarray) -> None:
    skewed = np.exp(weight)
    errors = [
        float(np.abs(made.restored - skewed).mean())
        for made in (blocks.nearest(skewed, 4, BLOCK), blocks.half_quadratic(skewed, 4, BLOCK))
    ]
    assert errors[1] <= errors[0] * 1.001


def test_second_order_lowers_the_error_of_the_outputs(weight: np.ndarray) -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((500, INPUTS)) @ random.standard_normal((INPUTS, INPUTS))
    x[:, 7] = 0
    made = blocks.second_order(weight, x.T @ x, 4, BLOCK), blocks.nearest(weight, 4, BLOCK)
    errors = [float(np.square(x @ (one.restored - weight).T).sum()) for one in made]
    assert errors[0] < 0.8 * errors[1]


def test_without_correlations_second_order_is_round_to_nearest(weight: np.ndarray) -> None:
    found = blocks.second_order(weight, np.eye(INPUTS), 4, BLOCK)
    plain = blocks.nearest(weight, 4, BLOCK, np.ones(INPUTS))
    assert np.array_equal(found.integers, plain.integers)
    assert found.restored == pytest.approx(plain.restored)


def test_what_matters_is_rounded_better_where_ranges_are_cut(weight: np.ndarray) -> None:
    importance = np.where(np.arange(INPUTS) % 8, 1.0, 100.0)
    made = blocks.nearest(weight, 4, BLOCK, importance), blocks.nearest(weight, 4, BLOCK)
    errors = [(np.square(one.restored - weight) * importance).sum(1) for one in made]
    assert (errors[0] <= errors[1] * 1.0001).all()
    assert errors[0].sum() < 0.9 * errors[1].sum()


def test_scales_of_salient_inputs_lower_the_error_of_the_outputs(weight: np.ndarray) -> None:
    random = np.random.default_rng(2)
    x = random.standard_normal((500, INPUTS)) * np.where(np.arange(INPUTS) % 16, 0.1, 10)
    moment = x.T @ x
    found = activation_scaling.best(weight, moment, 4, BLOCK)
    restored = blocks.nearest(weight * found.factors, 4, BLOCK).restored / found.factors
    plain = blocks.nearest(weight, 4, BLOCK).restored
    errors = [float(np.square(x @ (one - weight).T).sum()) for one in (restored, plain)]
    assert errors[0] < 0.8 * errors[1]
    assert found.left < 1
    assert found.alpha > 0


def test_nothing_is_scaled_where_all_inputs_are_alike(weight: np.ndarray) -> None:
    found = activation_scaling.best(weight, np.eye(INPUTS), 4, BLOCK)
    assert np.array_equal(found.factors, np.ones(INPUTS, np.float32))
    assert found.left == 1


def test_the_noisiest_matrices_get_more_bits_within_the_budget() -> None:
    layers = [
        allocation.Layer("a", 100, 0.3),
        allocation.Layer("b", 100, 0.1),
        allocation.Layer("c", 200, 0.2),
    ]
    assert allocation.more_bits(layers, 4.0) == set()
    assert allocation.more_bits(layers, 5.0) == {"a"}
    assert allocation.more_bits(layers, 6.0) == {"a", "b"}, "c does not fit any more"
    assert allocation.more_bits(layers, 8.0) == {"a", "b", "c"}
