import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from compression.kernels import rounding

BITS = st.integers(2, 8)
FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
WEIGHTS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


@given(st.floats(-1e4, -1e-3), st.floats(1e-3, 1e4), BITS)
def test_the_grid_is_the_asymmetric_min_max_formula(low: float, high: float, bits: int) -> None:
    """Q(x) = round((x - xmin) / (xmax - xmin) (2^n - 1)), but for the shift that puts zero on the grid."""
    on = rounding.grid(low, high, bits)
    assert on.levels == 2**bits - 1
    assert on.scale == pytest.approx((high - low) / (2**bits - 1))
    x = np.linspace(low, high, 1001)
    formula = np.rint((x - low) / (high - low) * (2**bits - 1))
    assert np.abs(rounding.quantize(x.astype(np.float32), on) - formula).max() <= 1
    assert abs(on.low - low) <= on.scale
    assert abs(on.high - high) <= on.scale


def test_the_formula_is_exact_where_zero_is_on_the_grid() -> None:
    x = np.random.default_rng(0).uniform(0, 6, 10_000).astype(np.float32)
    expected = np.rint(x / 6 * 15)
    assert np.array_equal(rounding.quantize(x, rounding.grid(0, 6, 4)), expected)


@given(FLOATS, FLOATS, BITS, st.booleans())
def test_zero_is_exact_and_rounding_is_within_half_a_step(
    one: float, other: float, bits: int, symmetric: bool
) -> None:
    low, high = sorted((one, other))
    on = rounding.grid(low, high, bits, symmetric=symmetric)
    assert 0 <= on.zero_point <= on.levels
    x = np.linspace(on.low, on.high, 101).astype(np.float32)
    back = rounding.dequantize(rounding.quantize(np.append(x, np.float32(0)), on), on)
    assert back[-1] == 0
    assert np.abs(back[:-1] - x).max() <= on.scale * 0.501 + 1e-6 * max(abs(on.low), abs(on.high))


@given(WEIGHTS, BITS, st.booleans())
def test_weights_keep_their_sign_and_shape_and_err_by_less_than_the_scale_allows(
    weight: np.ndarray, bits: int, per_channel: bool
) -> None:
    axis = 0 if per_channel else None
    scales = rounding.weight_scales(weight, axis, bits, minimise=False)
    back = rounding.round_trip(weight, scales, axis, bits)
    assert back.shape == weight.shape
    assert (np.sign(back) * np.sign(weight) >= 0).all()
    step = rounding.spread(scales, axis, weight.ndim)
    assert (np.abs(back - weight) <= step * 0.501 + 1e-30).all()


@given(WEIGHTS, BITS)
def test_minimised_scales_never_err_more(weight: np.ndarray, bits: int) -> None:
    def wrong(minimise: bool) -> np.ndarray:
        scales = rounding.weight_scales(weight, 0, bits, minimise=minimise)
        difference = rounding.round_trip(weight, scales, 0, bits) - weight
        return np.square(difference, dtype=np.float64).reshape(len(weight), -1).sum(1)

    assert (wrong(True) <= wrong(False) * 1.0001 + 1e-12).all()


def test_per_channel_beats_one_scale_for_all() -> None:
    random = np.random.default_rng(0)
    weight = (random.normal(size=(8, 16, 3, 3)) * np.logspace(-3, 0, 8)[:, None, None, None]).astype(
        np.float32
    )
    errors = [
        np.square(
            rounding.round_trip(weight, rounding.weight_scales(weight, axis, 8), axis, 8) - weight
        ).sum()
        for axis in (0, None)
    ]
    assert errors[0] < errors[1] / 2


@given(WEIGHTS, BITS, st.sampled_from([None, 0, 1]), st.integers(1, 40))
def test_how_many_weights_are_rounded_at_once_changes_nothing(
    weight: np.ndarray, bits: int, axis: int | None, at_once: int
) -> None:
    whole = rounding.weight_scales(weight, axis, bits)
    integers = rounding.quantize_weight(weight, whole, axis, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "AT_ONCE", at_once)
        assert np.array_equal(rounding.weight_scales(weight, axis, bits), whole)
        assert np.array_equal(rounding.quantize_weight(weight, whole, axis, bits), integers)
