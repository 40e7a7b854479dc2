"""Forms of a layer: the loss promised is that of the weights given, whatever the form."""

import numpy as np
import pytest

from compression.factorization.chains import Form, Link, cost, links, whole
from compression.factorization.forms import Forms, mean_output
from compression.factorization.layers import Layer, Windows
from compression.kernels import low_rank
from compression.kernels.redundancy import regularised

SHAPES = [
    (12, 9, 1),
    (6, 20, 1),
    (20, 6, 1),
    (8, 6, 3, 3),
    (16, 4, 3, 3),
    (4, 12, 3, 3),
    (8, 8, 3),
    (8, 6, 3, 5),
]
METHODS = ("svd", "spatial", "tucker")


def forms(shape: tuple[int, ...], step: int = 2) -> tuple[Forms, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    values = int(np.prod(shape[1:]))
    x = random.standard_normal((2000, values)) @ random.standard_normal((values, values))
    kernel, moment = random.standard_normal(shape), x.T @ x / len(x)
    return Forms(kernel, moment, step), kernel, regularised(moment)


def composed(parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The one kernel that a chain amounts to: its answers to every impulse."""
    values = int(np.prod(shape[1:]))
    impulses = np.eye(values).reshape(values, *shape[1:])
    return np.stack([mean_output(parts, one) for one in impulses], axis=1).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_promised_is_lost(shape: tuple[int, ...]) -> None:
    layer, kernel, moment = forms(shape)
    whole_energy = low_rank.energy(kernel.reshape(shape[0], -1), moment)
    found = list(layer.losses(METHODS))
    assert {loss.form.method for loss in found} == set(layer.families)
    for loss in found:
        missing = kernel - composed(layer.weights(loss.form), shape)
        lost = low_rank.energy(missing.reshape(shape[0], -1), moment)
        assert lost / whole_energy == pytest.approx(loss.error, abs=1e-9), loss


@pytest.mark.parametrize("shape", SHAPES)
def test_full_ranks_lose_nothing_and_lower_ones_more(shape: tuple[int, ...]) -> None:
    layer, _, _ = forms(shape)
    for method in layer.families:
        own = [
            loss for loss in layer.losses([method]) if method != "tucker" or loss.form.ranks[0] == shape[1]
        ]
        errors = [loss.error for loss in own]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_that_matter_more_lose_less(shape: tuple[int, ...]) -> None:
    """And what is promised is the energy lost where it matters."""
    plain, kernel, moment = forms(shape)
    matters = np.where(np.arange(shape[0]) % 2, 100.0, 0.01)
    layer = Forms(kernel, moment, 2, matters)
    assert layer.energy == pytest.approx(counted(kernel, moment, matters))
    for loss in layer.losses(METHODS):
        own, other = (
            counted(kernel - composed(one.weights(loss.form), shape), moment, matters)
            for one in (layer, plain)
        )
        assert own == pytest.approx(loss.error * layer.energy, abs=1e-7 * layer.energy)
        if loss.form.method == "svd":
            assert own <= other * (1 + 1e-9) + 1e-9 * layer.energy


def counted(kernel: np.ndarray, moment: np.ndarray, matters: np.ndarray) -> float:
    weight = kernel.reshape(len(kernel), -1)
    return float(np.einsum("o,oi,ij,oj->", matters, weight, regularised(moment), weight))


def test_forms_of_dead_inputs_are_finite() -> None:
    layer = Forms(np.ones((4, 4, 3, 3)), np.zeros((36, 36)), 2)
    for loss in layer.losses(METHODS):
        assert all(np.isfinite(part.astype(np.float32)).all() for part in layer.weights(loss.form))


def test_ranks_that_make_no_difference_are_not_given() -> None:
    """Of a kernel of rank 2 on every side."""
    random = np.random.default_rng(0)
    outputs, inputs = random.standard_normal((8, 2)), random.standard_normal((2, 6))
    kernel = np.einsum("or,ri,h,w->oihw", outputs, inputs, [1.0, 2, 1], [1.0, 0, -1])
    layer = Forms(kernel, np.eye(54), 1)
    forms = [loss.form for loss in layer.losses(METHODS)]
    assert len(set(forms)) == len(forms)
    assert max(form.ranks[0] for form in forms if form.method == "spatial") == 2
    assert max(form.ranks[1] for form in forms if form.method == "tucker") == 2
    assert layer.lowered(Form("tucker", (100, 100))) == Form("tucker", (6, 2))
    parts = layer.weights(Form("tucker", (2, 2)))
    np.testing.assert_allclose(composed(parts, kernel.shape), kernel, atol=1e-9)


def test_costs_of_a_chain() -> None:
    windows = Windows((3, 5), (2, 1), (1, 1), (1, 2), (1, 2))
    layer = Layer(None, "w", "x", windows, (8, 6), (4, 6), 10, 7, "")  # type: ignore[arg-type]
    assert whole(layer).macs == 10 * 7 * 15 * 24
    spatial = links(layer, Form("spatial", (3,)))
    assert spatial == [Link(3, 7, (0,)), Link(10, 3, (1,))]
    assert cost(layer, spatial).macs == 3 * 7 * 3 * (4 * 6) + 10 * 3 * 5 * (4 * 6)
    tucker = links(layer, Form("tucker", (2, 4)))
    assert tucker == [Link(2, 7, ()), Link(4, 2, (0, 1)), Link(10, 4, ())]
    assert cost(layer, tucker).macs == 2 * 7 * 48 + 4 * 2 * 15 * 24 + 10 * 4 * 24
    assert cost(layer, tucker).params == 2 * 7 + 4 * 2 * 15 + 10 * 4
    assert links(layer, Form("tucker", (7, 4)))[0] == Link(4, 7, (0, 1))
    assert links(layer, Form("tucker", (2, 10)))[-1] == Link(10, 2, (0, 1))
