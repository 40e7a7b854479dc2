"""Kernels of importance against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.kernels import importance
from compression.kernels.redundancy import Sum, marginal_losses, regularised

RANDOM = np.random.default_rng(0)


def test_norms_of_slices_and_their_units() -> None:
    weight = RANDOM.standard_normal((4, 6, 3, 3)).astype(np.float32)
    l1, l2 = (importance.norms(weight, 1, order) for order in (1, 2))
    np.testing.assert_allclose(l1[2], np.abs(weight[:, 2]).sum(), rtol=1e-6)
    np.testing.assert_allclose(l2[2], np.square(weight[:, 2]).sum(), rtol=1e-6)
    units = np.array([[0, 3], [1, 4], [2, 5]])
    np.testing.assert_allclose(importance.of_units(l1, units), l1[:3] + l1[3:])


def test_taylor_is_the_change_of_a_linear_loss() -> None:
    weight, gradient = RANDOM.standard_normal((2, 5, 4))
    without = weight.copy()
    without[3] = 0
    assert importance.taylor(weight, gradient, 0)[3] == pytest.approx(np.sum(gradient * (weight - without)))


def test_each_layer_has_one_voice() -> None:
    small, large = np.array([1.0, 3.0]), np.array([300.0, 100.0])
    np.testing.assert_allclose(importance.combined([small, large], 2), [1.0, 1.0])
    assert importance.combined([], 3).tolist() == [1, 1, 1]
    assert importance.normalised(np.zeros(2)).tolist() == [1, 1]


def _error(moment: np.ndarray, weight: np.ndarray, gone: list[int]) -> float:
    """What the output loses at best when these slices go, by plain least squares."""
    kept = np.setdiff1d(np.arange(len(moment)), gone)
    own = moment[np.ix_(kept, kept)]
    left = moment[np.ix_(gone, gone)] - moment[np.ix_(gone, kept)] @ np.linalg.solve(
        own, moment[np.ix_(kept, gone)]
    )
    return float(np.trace(weight[gone].T @ left @ weight[gone]))


@given(st.integers(0, 1000), st.sampled_from([1, 2]))
def test_marginal_losses_add_up_to_the_error_of_least_squares(seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((40, 8)) @ random.standard_normal((8, 8))
    moment, weight = regularised(rows.T @ rows / 40), random.standard_normal((8, 3))
    units = np.arange(8).reshape(-1, width)
    energy = float(np.trace(weight.T @ moment @ weight))
    one = Sum(moment, weight, units)
    np.testing.assert_allclose(
        one.losses(),
        [_error(regularised(moment), weight, gone) / energy for gone in units.tolist()],
        rtol=1e-6,
    )
    total, gone = 0.0, list[int]()
    for unit in (2, 0):
        total += float(one.losses()[unit])
        one.remove(unit)
        gone += units[unit].tolist()
    assert total == pytest.approx(_error(regularised(moment), weight, gone) / energy, rel=1e-5)


def test_a_copy_costs_nothing_and_goes_first() -> None:
    rows = RANDOM.standard_normal((200, 5))
    rows[:, 4] = rows[:, 1] * 2
    weight = np.eye(5)
    losses = marginal_losses([Sum(rows.T @ rows / 200, weight, np.arange(5)[:, None])], 5)
    first, second = np.argsort(losses)[:2]
    assert first in {1, 4}
    assert losses[first] < 1e-2 * losses[second]
