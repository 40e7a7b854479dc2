"""The factors of a kernel: exact where there are any, and never worse for more of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.rewriting.separation import Floats, separate

POINTS = 9


def moment(random: np.random.Generator, size: int) -> Floats:
    rows = random.standard_normal((4 * size, size)) @ random.standard_normal((size, size))
    return np.asarray(rows.T @ rows / len(rows))


@pytest.mark.parametrize(("channels", "rank"), [(1, 1), (1, 2), (4, 3)])
def test_a_kernel_made_of_such_factors_is_found_again(channels: int, rank: int) -> None:
    random = np.random.default_rng(0)
    kernels = random.standard_normal((8 // channels, rank, channels, POINTS))
    mixing = random.standard_normal((12, 8 // channels, rank))
    weight = np.einsum("ogr,grck->ogck", mixing, kernels).reshape(12, 8, POINTS)
    found = separate(weight, moment(random, 8 * POINTS), channels, rank)
    assert found.error < 1e-12
    np.testing.assert_allclose(found.whole, weight, atol=1e-6)


@given(seed=st.integers(0, 1000), channels=st.sampled_from([1, 2, 4]), rank=st.integers(1, 4))
def test_fitting_lowers_the_error_of_the_svd(seed: int, channels: int, rank: int) -> None:
    random = np.random.default_rng(seed)
    weight, seen = random.standard_normal((6, 8, POINTS)), moment(random, 8 * POINTS)
    errors = [separate(weight, seen, channels, rank, sweeps).error for sweeps in (0, 1, 4)]
    assert errors == sorted(errors, reverse=True)
    assert 0 <= errors[-1] < 1


@given(seed=st.integers(0, 1000))
def test_what_lies_between_has_one_scale(seed: int) -> None:
    """One scale of quantization suits all channels of the tensor between the two convolutions."""
    random = np.random.default_rng(seed)
    weight, seen = random.standard_normal((6, 8, POINTS)), moment(random, 8 * POINTS)
    kernels = separate(weight, seen, 1, 2).kernels[:, :, 0]
    blocks = np.stack([seen[at : at + POINTS, at : at + POINTS] for at in range(0, 72, POINTS)])
    energies = np.einsum("gra,gab,grb->gr", kernels, blocks, kernels)
    np.testing.assert_allclose(energies, 1, rtol=0.2)


def test_channels_that_are_never_used() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((6, 4, POINTS))
    for found in (
        separate(weight, np.zeros((36, 36)), 1, 1),
        separate(np.zeros_like(weight), moment(random, 36), 1, 2),
    ):
        assert np.isfinite(found.kernels).all()
        assert np.isfinite(found.mixing).all()
        assert np.abs(found.kernels).max() < 1e3
