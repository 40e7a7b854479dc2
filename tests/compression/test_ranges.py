import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compression.kernels import ranges
from compression.kernels.histogram import NEGLIGIBLE, Histogram
from compression.kernels.ranges import METHODS, Range, by_error, error

BITS = st.integers(2, 8)
VALUES = arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-(2.0**30), 2.0**30, width=32, allow_subnormal=False),
)


def seen(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.update(batch, float(batch.min()), float(batch.max()))
    return histogram


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_histogram_counts_everything_and_knows_the_extremes(batches: list[np.ndarray]) -> None:
    histogram, whole = seen(*batches), np.concatenate(batches)
    assert (histogram.minimum, histogram.maximum) == (whole.min(), whole.max())
    assert histogram.low <= whole.min() + 1e-30
    assert histogram.high >= whole.max() - 1e-30
    if max(whole.max(), 0.0) - min(whole.min(), 0.0) > NEGLIGIBLE:
        assert histogram.counts.sum() == len(whole)


def test_a_histogram_of_batches_is_near_that_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(1, 3, 40_000).astype(np.float32)
    streamed = seen(*np.array_split(values, 40))
    share = np.cumsum(streamed.counts) / streamed.counts.sum()
    for level in (0.01, 0.5, 0.99):
        found = streamed.centers[np.searchsorted(share, level)]
        assert found == pytest.approx(np.quantile(values, level), abs=0.05)


@given(VALUES, BITS, st.floats(90, 100))
def test_every_range_holds_zero_and_stays_within_what_was_seen(
    values: np.ndarray, bits: int, share: float
) -> None:
    histogram = seen(values)
    widest = ranges.minmax(histogram, bits, share)
    for method in METHODS.values():
        low, high = method(histogram, bits, share)
        assert widest.low <= low <= 0 <= high <= widest.high


@given(VALUES, BITS)
def test_auto_is_the_method_of_least_error(values: np.ndarray, bits: int) -> None:
    histogram = seen(values)
    _, chosen = by_error(histogram, bits, 99.9)
    least = min(error(histogram, method(histogram, bits, 99.9), bits) for method in METHODS.values())
    assert error(histogram, chosen, bits) == least


def test_an_outlier_is_cut_off_by_all_but_minmax() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100_000).astype(np.float32)
    values[0] = 60
    histogram = seen(values)
    assert ranges.minmax(histogram, 8, 99.9).high == 60
    assert ranges.percentile(histogram, 8, 99.9).high < 5
    assert ranges.mse(histogram, 8, 99.9).high < 59
    assert ranges.entropy(histogram, 8, 99.9).high < 59


def test_entropy_does_not_stare_at_the_zeros_of_a_relu() -> None:
    """Zero is on the grid whatever the range; most values being zero says nothing about the others."""
    random = np.random.default_rng(0)
    values = np.maximum(random.normal(-1, 2, 50_000), 0).astype(np.float32)
    assert ranges.entropy(seen(values), 8, 99.9).high > 4


def test_percentile_of_a_one_sided_tensor_keeps_its_zero() -> None:
    values = np.linspace(0, 10, 10_001, dtype=np.float32)
    low, high = ranges.percentile(seen(values), 8, 98)
    assert low == 0
    assert high == pytest.approx(9.9, abs=0.02)


def test_a_constant_tensor_has_a_range() -> None:
    assert ranges.minmax(seen(np.zeros(5, np.float32)), 8, 99.9) == Range(0, 0)
    for method in METHODS.values():
        assert method(seen(np.full(5, 3.0, np.float32)), 8, 99.9).high <= 3
