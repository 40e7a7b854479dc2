import numpy as np
import pytest

from compression.measure.regression import Regression
from compression.measurement import Metric
from tests.compression.measure.scoring import coverage, read


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 4)])
def test_errors_and_variance_explained(shape: tuple[int, ...], offset: float) -> None:
    random = np.random.default_rng(0)
    labels = (
        offset + random.normal(size=(400, *shape)) * 3 + 100 * np.arange(int(np.prod(shape))).reshape(shape)
    )
    output = labels + random.normal(size=labels.shape)
    found = read(Regression(), output.reshape(400, -1), labels)
    squares = ((labels - labels.mean(0)) ** 2).sum()
    assert list(found) == ["rmse", "mae", "r2"]
    assert found["rmse"].value == pytest.approx(np.sqrt(np.mean((output - labels) ** 2)), rel=1e-6)
    assert found["mae"].value == pytest.approx(np.mean(np.abs(output - labels)), rel=1e-6)
    assert found["r2"].value == pytest.approx(1 - ((output - labels) ** 2).sum() / squares, rel=1e-6)
    better = {name: (metric.higher_is_better, metric.relative) for name, metric in found.items()}
    assert better == {"rmse": (False, True), "mae": (False, True), "r2": (True, False)}


def test_labels_that_are_all_the_same_leave_nothing_to_explain() -> None:
    labels = np.full(50, 0.1)
    assert list(read(Regression(), labels + 1, labels)) == ["rmse", "mae"]


def test_images_have_no_r2() -> None:
    labels = np.random.default_rng(0).normal(size=(8, 70, 70)).astype(np.float32)
    assert list(read(Regression(), labels, labels)) == ["rmse", "mae"]


@pytest.mark.parametrize(("name", "truth"), [("rmse", 1.0), ("mae", (2 / np.pi) ** 0.5), ("r2", 0.8)])
def test_intervals_cover_the_truth(name: str, truth: float) -> None:
    def draw(random: np.random.Generator) -> Metric:
        labels = random.normal(0, 5**0.5, 300)
        return read(Regression(), labels + random.normal(size=300), labels, size=300)[name]

    assert 0.91 < coverage(draw, truth) < 0.99
