"""Rounding in blocks, beside ONNX Runtime's own quantizer and kernel."""

import numpy as np
import pytest
from onnxruntime.capi._pybind_state import quantize_matmul_4bits

from compression.kernels import blocks

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
    found, plain = blocks.second_order(weight, np.eye(INPUTS), 4, BLOCK), blocks.nearest(weight, 4, BLOCK)
    assert np.array_equal(found.integers, plain.integers)
    assert found.restored == pytest.approx(plain.restored)
