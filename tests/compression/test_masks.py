"""Masks as numpy alone would choose them, and as torch.nn.utils.prune does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn.utils import prune

from compression.kernels import masks
from compression.sparsity.options import Constant, PolynomialDecay

Values = np.ndarray
finite = st.floats(-4, 4, width=32)
few = st.sampled_from([0.0, -1.0, 1.0, 2.0])
"""So few values that most are tied."""
weights = st.one_of(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=elements)
    for elements in (finite, few)
)


def scores(*found: Values) -> list[masks.Scores]:
    return [masks.magnitudes(one) for one in found]


@given(st.lists(weights, min_size=1, max_size=4), st.floats(0, 1))
def test_drops_exactly_the_smallest(found: list[Values], sparsity: float) -> None:
    made = list(masks.largest(scores(*found), sparsity))
    stays = np.concatenate([mask.ravel() for mask in made])
    values = np.abs(np.concatenate([one.ravel() for one in found]))
    dropped = min(round(sparsity * stays.size), stays.size - 1)
    assert [mask.shape for mask in made] == [one.shape for one in found]
    assert np.array_equal(np.flatnonzero(~stays), np.sort(values.argsort(kind="stable")[:dropped]))


@given(st.lists(weights, min_size=1, max_size=3), st.data())
def test_threshold_is_the_value_of_that_rank(found: list[Values], data: st.DataObject) -> None:
    values = np.sort(np.abs(np.concatenate([one.ravel() for one in found])))
    rank = data.draw(st.integers(0, len(values) - 1))
    assert masks.threshold(scores(*found), rank) == values[rank]


def test_more_scores_than_are_counted_at_once() -> None:
    weight = np.random.default_rng(0).standard_normal((3, 1 << 19), np.float32)
    (mask,) = masks.largest(scores(weight), 0.7)
    assert mask.size - mask.sum() == round(0.7 * mask.size)
    assert np.abs(weight[~mask]).max() < np.abs(weight[mask]).min()


def test_weights_of_any_memory_layout() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 4, 3, 5), np.float32)
    (whole,) = masks.largest(scores(weight), 0.5)
    (view,) = masks.largest(scores(np.moveaxis(weight, (0, 1), (-2, -1))), 0.5)
    assert np.array_equal(np.moveaxis(view, (-2, -1), (0, 1)), whole)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.83])
def test_as_torch_prunes(sparsity: float) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.Linear(20, 10)]
    found = [layer.weight.detach().numpy().copy() for layer in layers]
    (own,) = masks.largest(scores(found[0]), sparsity)
    together = list(masks.largest(scores(*found), sparsity))
    prune.l1_unstructured(layers[0], "weight", sparsity)
    assert np.array_equal(own, layers[0].weight_mask.numpy() == 1)
    prune.remove(layers[0], "weight")
    layers[0].weight.data = torch.from_numpy(found[0])
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=sparsity)
    for layer, mask in zip(layers, together, strict=True):
        assert np.array_equal(mask, layer.weight_mask.numpy() == 1)


@given(weights)
def test_lamp_is_the_share_of_what_is_not_smaller(weight: Values) -> None:
    values = np.abs(weight.astype(np.float64)).ravel()
    order = values.argsort(kind="stable")
    energy = [np.square(values[order[at:]]).sum() for at in range(len(order))]
    expected = [values[at] ** 2 / total if total else 0 for at, total in zip(order, energy, strict=True)]
    found = masks.lamp(masks.magnitudes(weight))
    assert found.shape == weight.shape
    assert found.ravel()[order] == pytest.approx(expected, rel=1e-5, abs=1e-30)


def test_lamp_tells_tiny_weights_from_zeros() -> None:
    found = masks.lamp(np.array([0, 1e-30, 1e-25, 1], np.float32))
    assert found[0] == 0 < found[1] <= found[2] < found[3] == 1


def test_lamp_does_not_care_for_the_scale_of_a_layer() -> None:
    random = np.random.default_rng(0)
    one, other = random.standard_normal((2, 20, 30), np.float32)
    plain = masks.largest([masks.lamp(masks.magnitudes(layer)) for layer in (one, other)], 0.9)
    scaled = masks.largest([masks.lamp(masks.magnitudes(layer)) for layer in (one * 64, other / 64)], 0.9)
    for before, after in zip(plain, scaled, strict=True):
        assert np.array_equal(before, after)


def test_random_scores_repeat_and_take_zeros_first() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 50), np.float32)
    weight[:10] = 0
    drawn = masks.random(weight, (3, 1))
    assert np.array_equal(drawn, masks.random(weight, (3, 1)))
    assert not np.array_equal(drawn, masks.random(weight, (3, 2)))
    (half,) = masks.largest([drawn], 0.5)
    assert not half[:10].any()
    (more,) = masks.largest([masks.random(weight * half, (3, 1))], 0.8)
    assert not (more & ~half).any()
    assert abs(np.abs(weight[half]).mean() - np.abs(weight[10:]).mean()) < 0.05, "large ones go as others do"


@given(weights, st.integers(2, 5), st.data())
def test_n_of_every_m_neighbours_stay(weight: Values, m: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m - 1))
    made = masks.n_of_m(masks.magnitudes(weight), n, m)
    for row, mask in zip(np.abs(weight), made, strict=True):
        for start in range(0, len(row), m):
            stays, values = mask[start : start + m], row[start : start + m]
            assert stays.sum() == min(n, len(values))
            assert values[stays].min() >= values[~stays].max(initial=0)


def test_two_of_four_as_nvidia_prunes_them() -> None:
    """The best of all six patterns for each four input channels (apex, m4n2_1d)."""
    weight = np.random.default_rng(0).standard_normal((8, 16, 3, 3), np.float32)
    made = masks.n_of_m(masks.magnitudes(np.moveaxis(weight, (0, 1), (-2, -1))), 2, 4)
    patterns = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]])
    rows = np.abs(weight.transpose(2, 3, 0, 1).reshape(-1, 4))
    best = patterns[(rows @ patterns.T).argmax(1)]
    assert np.array_equal(made.reshape(-1, 4), best == 1)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)), elements=finite),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_blocks_are_means_and_go_as_a_whole(weight: Values, rows: int, columns: int) -> None:
    means = masks.block_means(masks.magnitudes(weight), (rows, columns))
    mask = masks.of_blocks(means > 1, (rows, columns), weight.shape)
    assert mask.shape == weight.shape
    for index in np.ndindex(means.shape):
        place = (
            index[0],
            *(slice(at * n, (at + 1) * n) for at, n in zip(index[1:], (rows, columns), strict=True)),
        )
        assert means[index] == pytest.approx(np.abs(weight[place]).mean(), rel=1e-5, abs=1e-30)
        assert (mask[place] == (means[index] > 1)).all()


def test_polynomial_decay_has_the_values_of_tfmot() -> None:
    """0.8 + (0.5 - 0.8) (1 - t / 1000)^3 each hundred steps, as in the tutorial."""
    schedule = PolynomialDecay(initial_sparsity=0.5, begin_step=200, end_step=1200, frequency=100)
    expected = [0.5, 0.5813, 0.6464, 0.6971, 0.7352, 0.7625, 0.7808, 0.7919, 0.7976, 0.7997, 0.8]
    due = {step: found for step in range(1500) if (found := schedule.sparsity(step, 1500, 0.8)) is not None}
    assert list(due) == list(range(200, 1201, 100))
    assert list(due.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("power", "half"), [(1.0, 0.4), (2.0, 0.6), (3.0, 0.7)])
def test_the_power_bends_the_decay(power: float, half: float) -> None:
    schedule = PolynomialDecay(end_step=100, frequency=1, power=power)
    assert schedule.sparsity(50, 100, 0.8) == pytest.approx(half)


def test_a_decay_reaches_its_end_whatever_the_frequency() -> None:
    schedule = PolynomialDecay(begin_step=3, end_step=50, frequency=20)
    due = [step for step in range(100) if schedule.sparsity(step, 100, 0.9) is not None]
    assert due == [3, 23, 43, 50]
    assert schedule.sparsity(50, 100, 0.9) == 0.9
    assert PolynomialDecay(begin_step=5, end_step=5).sparsity(5, 100, 0.9) == 0.9


def test_constant_is_all_at_once() -> None:
    schedule = Constant(begin_step=4, frequency=3)
    assert [schedule.sparsity(step, 12, 0.6) for step in range(12)] == [
        *[None] * 4,
        *[0.6, None, None] * 2,
        *[0.6, None],
    ]
