import numpy as np
import pytest

from compression.measure import sums
from compression.measure.multilabel import MultiLabel
from compression.measurement import Metric
from tests.compression.measure.scoring import coverage, read


def problem(n: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits; the later the label, the rarer."""
    random = np.random.default_rng(seed)
    truth = random.random((n, labels)) < 0.5 ** np.arange(1, labels + 1)
    return (2.0 * truth - 1 + random.normal(size=truth.shape)).astype(np.float32), truth


def f1(said: np.ndarray, truth: np.ndarray) -> float:
    hits = (said & truth).sum()
    return float(2 * hits / (said.sum() + truth.sum()))


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float32])
def test_micro_and_macro(dtype: type) -> None:
    output, truth = problem(500, 4)
    found = read(MultiLabel(0.0), output, truth.astype(dtype))
    said = output > 0
    assert list(found) == ["micro_f1", "macro_f1"]
    assert found["micro_f1"].value == pytest.approx(f1(said, truth))
    assert found["macro_f1"].value == pytest.approx(
        np.mean([f1(*both) for both in zip(said.T, truth.T, strict=True)])
    )


def test_probabilities_are_the_same_at_a_half() -> None:
    output, truth = problem(200, 4)
    probable = 1 / (1 + np.exp(-output))
    assert read(MultiLabel(0.5), probable, truth) == read(MultiLabel(0.0), output, truth)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_question_is_judged_by_accuracy(shape: tuple[int, ...]) -> None:
    output, truth = problem(300, 1)
    found = read(MultiLabel(0.0), output.reshape(shape), truth[:, 0])
    correct = int(((output > 0) == truth).sum())
    assert list(found) == ["accuracy", "f1"]
    assert (found["accuracy"].value, found["accuracy"].ci95) == (correct / 300, sums.wilson(correct, 300))
    assert found["f1"].value == pytest.approx(f1(output > 0, truth))


def test_masks_have_one_f1() -> None:
    """Also known as the Dice coefficient of all pixels."""
    random = np.random.default_rng(0)
    output, truth = random.normal(size=(9, 1, 8, 8)), random.random((9, 8, 8)) < 0.3
    (found,) = read(MultiLabel(0.0), output, truth).values()
    assert found.name == "micro_f1"
    assert found.value == pytest.approx(f1(output[:, 0] > 0, truth))


def test_nothing_to_find_and_nothing_found() -> None:
    found = read(MultiLabel(0.0), np.full((9, 3), -1.0), np.zeros((9, 3)))
    assert found["micro_f1"].value == found["macro_f1"].value == 0


@pytest.mark.parametrize("name", ["micro_f1", "macro_f1"])
def test_intervals_cover_the_truth(name: str) -> None:
    truth = read(MultiLabel(0.0), *problem(200_000, 3, seed=1), size=1000)[name].value

    def draw(random: np.random.Generator) -> Metric:
        return read(MultiLabel(0.0), *problem(300, 3, seed=int(random.integers(1 << 30))), size=300)[name]

    assert 0.91 < coverage(draw, truth) < 0.99
