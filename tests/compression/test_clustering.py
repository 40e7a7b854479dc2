"""k-means of numbers, beside every clustering there is."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.kernels import clustering

Values = np.ndarray


def error(numbers: Values, found: clustering.Codebook) -> float:
    return float(np.square(numbers - found.centroids[found.assign(numbers)]).sum())


def entropy(numbers: Values, found: clustering.Codebook) -> float:
    shares = np.bincount(found.assign(numbers)) / len(numbers)
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def fit(
    numbers: Values, clusters: int, start: clustering.Start = "exact", penalty: float = 0.0
) -> clustering.Codebook:
    return clustering.fit(numbers, clusters, start, np.random.default_rng(0), penalty)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.integers(1, 4))
def test_exact_is_the_best_there_is(drawn: list[int], clusters: int) -> None:
    numbers = np.sort(np.array(drawn, np.float64))
    best = min(
        sum(float(np.square(part - part.mean()).sum()) for part in np.split(numbers, cuts) if len(part))
        for count in range(clusters)
        for cuts in combinations(range(1, len(numbers)), count)
    )
    found = fit(numbers, clusters)
    assert len(found.centroids) <= clusters
    assert error(numbers, found) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("start", ["exact", "kmeans++", "density", "linear"])
def test_every_start_ends_where_centroids_are_the_means_of_what_is_nearest(start: clustering.Start) -> None:
    numbers = np.random.default_rng(1).standard_t(5, 20_000)
    found = fit(numbers, 16, start)
    distances = np.abs(numbers[:, None] - found.centroids)
    assert np.array_equal(distances.argmin(1), found.assign(numbers))
    means = [numbers[found.assign(numbers) == index].mean() for index in range(len(found.centroids))]
    assert found.centroids == pytest.approx(means)
    assert error(numbers, fit(numbers, 16)) <= 1.01 * error(numbers, found)


def test_a_penalty_trades_error_for_entropy() -> None:
    numbers = np.random.default_rng(1).standard_normal(20_000)
    found = [fit(numbers, 16, penalty=penalty) for penalty in (0.0, 1.0, 4.0)]
    errors, bits = [error(numbers, one) for one in found], [entropy(numbers, one) for one in found]
    assert errors == sorted(errors)
    assert bits == sorted(bits, reverse=True)
    assert bits[2] < bits[0] - 0.5


def test_few_values_for_many_weights_are_shared() -> None:
    random = np.random.default_rng(0)
    assert clustering.shared(random.integers(0, 16, (32, 32)).astype(np.float32))
    assert not clustering.shared(random.standard_normal((32, 32), np.float32))
    assert not clustering.shared(np.arange(16, dtype=np.float32))
