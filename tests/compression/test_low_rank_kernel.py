"""Low-rank factors: what is promised is what is lost, and less than by the weights alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.kernels import low_rank

sizes = st.integers(1, 12)


def case(outputs: int, inputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((inputs, inputs)) * random.exponential(1, inputs)
    return random.standard_normal((outputs, inputs)), random.standard_normal((50, inputs)) @ mixing


@given(sizes, sizes, st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_the_error_promised_is_the_error_of_the_outputs(outputs: int, inputs: int, seed: int) -> None:
    weight, x = case(outputs, inputs, seed)
    found = low_rank.truncated(weight, x.T @ x / len(x))
    for rank in range(1, len(found.energies) + 1):
        factors = found.basis[:, :rank] @ found.codes[:rank]
        lost = np.square(x @ (weight - factors).T).sum(1).mean()
        whole = np.square(x @ weight.T).sum(1).mean()
        assert lost == pytest.approx(found.energies[rank:].sum(), rel=1e-6, abs=1e-9 * whole)


@given(sizes, sizes, st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_full_rank_is_the_map_itself(outputs: int, inputs: int, seed: int) -> None:
    weight, x = case(outputs, inputs, seed)
    found = low_rank.truncated(weight, x.T @ x / len(x))
    np.testing.assert_allclose(x @ (found.basis @ found.codes).T, x @ weight.T, atol=1e-4)
    assert len(found.energies) <= min(outputs, inputs)


def test_what_is_passed_on_has_a_mean_square_of_one() -> None:
    weight, x = case(9, 7, 0)
    values = x @ low_rank.truncated(weight, x.T @ x / len(x)).codes.T
    np.testing.assert_allclose(np.square(values).mean(0), 1, rtol=1e-6)


def test_no_map_of_the_rank_loses_less_than_the_whitened_one() -> None:
    weight, x = case(10, 8, 1)
    found = low_rank.truncated(weight, x.T @ x / len(x))
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    plain = (left[:, :3] * values[:3]) @ right[:3]
    lost = np.square(x @ (weight - plain).T).sum(1).mean()
    assert found.energies[3:].sum() < 0.8 * lost


def test_a_rank_that_the_inputs_do_not_have_is_not_given() -> None:
    weight, x = case(6, 5, 2)
    x[:, 3:] = x[:, :2]
    assert len(low_rank.truncated(weight, x.T @ x / len(x)).energies) == 3
    dead = low_rank.truncated(weight, np.zeros((5, 5)))
    assert np.isfinite(dead.codes).all()
    assert dead.energies.tolist() == [0.0]


def test_the_best_map_leaves_an_error_that_no_input_explains() -> None:
    random = np.random.default_rng(0)
    z, y = random.standard_normal((80, 4)), random.standard_normal((80, 3))
    told = low_rank.told(y.T @ z, z.T @ z)
    np.testing.assert_allclose((y - z @ told.T).T @ z, 0, atol=1e-9)
