import numpy as np
import pytest

from compression.measure import sums
from compression.measure.classification import Classification, Positions
from compression.measurement import Metric
from tests.compression.measure.scoring import coverage, read


def problem(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that lean towards the label; classes are not as frequent as each other."""
    random = np.random.default_rng(seed)
    labels = (classes * random.random(n) ** 2).astype(int)
    output = random.normal(size=(n, classes)).astype(np.float32)
    output[np.arange(n), labels] += 1.5
    return output, labels


def macro(decided: np.ndarray, labels: np.ndarray) -> float:
    scores = []
    for own in set(decided) | set(labels):
        precision = np.mean(labels[decided == own] == own) if (decided == own).any() else 0
        recall = np.mean(decided[labels == own] == own) if (labels == own).any() else 0
        both = precision + recall
        scores.append(2 * precision * recall / both if both else 0)
    return float(np.mean(scores))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_accuracy_comes_first(dtype: type) -> None:
    output, labels = problem(500, 12)
    found = read(Classification(), output, labels.astype(dtype))
    correct = int((output.argmax(1) == labels).sum())
    among = sum(label in row for label, row in zip(labels, np.argsort(-output, 1)[:, :5], strict=True))
    assert list(found) == ["accuracy", "top5_accuracy", "macro_f1"]
    assert found["accuracy"] == Metric(
        name="accuracy", value=correct / 500, ci95=sums.wilson(correct, 500), n=500
    )
    assert found["top5_accuracy"] == Metric(
        name="top5_accuracy", value=among / 500, ci95=sums.wilson(among, 500), n=500
    )
    assert found["macro_f1"].value == pytest.approx(macro(output.argmax(1), labels))
    assert all(metric.higher_is_better and not metric.relative for metric in found.values())


@pytest.mark.parametrize("classes", [2, 5])
def test_the_best_five_of_five_say_nothing(classes: int) -> None:
    assert list(read(Classification(), *problem(50, classes))) == ["accuracy", "macro_f1"]


def test_equal_scores_are_decided_as_argmax_does() -> None:
    """Coarse rounding makes them frequent."""
    output = np.zeros((8, 8), np.float32)
    found = read(Classification(), output, np.arange(8))
    assert found["accuracy"].value == 1 / 8
    assert found["top5_accuracy"].value == 5 / 8


def test_classes_that_do_not_occur_do_not_count() -> None:
    output = np.eye(6, dtype=np.float32)[[0, 0, 1]]
    found = read(Classification(), output, np.array([0, 1, 1]))
    assert found["macro_f1"].value == pytest.approx(2 / 3)


def test_negative_labels_count_for_nothing() -> None:
    output, labels = problem(200, 6)
    hidden = np.arange(200) % 3 == 0
    found = read(Classification(), output, np.where(hidden, -1, labels))
    assert found["accuracy"].n == int((~hidden).sum())
    assert found["accuracy"].value == np.mean(output[~hidden].argmax(1) == labels[~hidden])
    assert read(Classification(), output, np.full(200, -1)) == {}


def test_labels_beyond_the_classes_are_wrong() -> None:
    output = np.eye(6, dtype=np.float32)
    found = read(Classification(), output, np.array([0, 1, 2, 3, 4, 200]))
    assert found["accuracy"].value == found["top5_accuracy"].value == 5 / 6
    assert found["macro_f1"].value == pytest.approx(5 / 6)


def test_interval_of_macro_f1_covers_the_truth() -> None:
    truth = read(Classification(), *problem(200_000, 4, seed=1), size=1000)["macro_f1"].value

    def draw(random: np.random.Generator) -> Metric:
        drawn = problem(300, 4, seed=int(random.integers(1 << 30)))
        return read(Classification(), *drawn, size=300)["macro_f1"]

    assert 0.91 < coverage(draw, truth) < 0.99


@pytest.mark.parametrize("axis", [1, 2])
def test_positions(axis: int) -> None:
    output, labels = problem(600, 5)
    output, labels = output.reshape(100, 6, 5), labels.reshape(100, 6)
    labels[np.random.default_rng(1).random(labels.shape) < 0.3] = -100
    scores = output if axis == 2 else output.swapaxes(1, 2)
    (found,) = read(Positions(axis), scores, labels).values()
    counted = labels >= 0
    assert found.name == "token_accuracy"
    assert found.value == pytest.approx(np.mean((output.argmax(2) == labels)[counted]))
    assert found.n == 100
    assert read(Positions(2), output, np.full_like(labels, -1)) == {}


def test_positions_of_a_sample_are_not_taken_as_independent() -> None:
    labels = np.repeat(np.random.default_rng(0).integers(0, 2, 400), 50).reshape(400, 50)
    output = np.zeros((400, 50, 2), np.float32)
    (found,) = read(Positions(2), output, labels).values()
    assert found.ci95[1] - found.ci95[0] == pytest.approx(2 * 1.96 * 0.5 / 400**0.5, rel=0.25)
