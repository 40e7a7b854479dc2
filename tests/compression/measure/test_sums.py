import numpy as np
import pytest

from compression.measure import sums
from compression.measure.sums import Sums


def mean(totals: np.ndarray) -> np.ndarray:
    return totals[..., 1] / totals[..., 0]


def filled(values: np.ndarray, size: int) -> Sums:
    made = Sums()
    for start in range(0, len(values), size):
        part = values[start : start + size]
        made.add(np.stack([np.ones(len(part)), part], axis=1))
    return made


def test_wilson_interval() -> None:
    assert sums.wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert sums.wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(7, 2.3646), (10, 2.2281), (30, 2.0423), (63, 1.9983), (10**6, 1.96)]
)
def test_quantiles_are_those_of_the_table(freedom: int, quantile: float) -> None:
    assert sums.student(freedom) == pytest.approx(quantile, abs=0.011)


def test_interval_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(3, 2, 20_000)
    low, high = filled(values, 64).interval(mean)
    half = 1.96 * values.std() / len(values) ** 0.5
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)


def test_order_of_classes_does_not_narrow_it() -> None:
    """Sorted data are as uncertain as shuffled ones."""
    values = np.repeat([0.0, 1.0], 10_000)
    low, high = filled(values, 64).interval(mean)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5 / 20_000**0.5, rel=0.25)


def test_it_narrows_with_the_root_of_the_samples() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    wide, narrow = (filled(values[:n], 64).interval(mean) for n in (200, 20_000))
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(10, rel=0.3)


def test_is_within_its_bounds_and_the_same_again() -> None:
    values = np.random.default_rng(0).normal(size=50)
    one, other = filled(values, 8), filled(values, 8)
    assert one.interval(mean) == other.interval(mean)
    assert one.interval(mean, least=-0.01, most=0.01) == (-0.01, 0.01)


def test_a_single_sample_has_no_spread() -> None:
    assert filled(np.array([2.0]), 1).interval(mean) == (2, 2)


def test_memory_is_flat() -> None:
    few, many = filled(np.zeros(10), 64), filled(np.zeros(10_000), 64)
    assert few._groups.nbytes == many._groups.nbytes
    assert many.n == 10_000
