"""Intervals of what was lost, tried on many data sets of a known law."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compression.measure import paired
from compression.measure.classification import Classification, Positions
from compression.measure.language import LanguageModel
from compression.measure.multilabel import MultiLabel
from compression.measure.regression import Regression
from compression.measure.score import Score
from compression.measure.similarity import Pairs, Similarity
from compression.measure.transcription import Transcription
from compression.measurement import Drop, Interval
from tests.compression.measure.scoring import read

Array = np.ndarray[Any, np.dtype[Any]]


def lost(make: Callable[[], Score], before: Array, after: Array, labels: Array) -> Drop:
    scores = make(), make()
    first, second = (
        next(iter(read(score, output, labels).values()))
        for score, output in zip(scores, (before, after), strict=True)
    )
    found = paired.drop((first, second), (scores[0].evidence(), scores[1].evidence()))
    assert found is not None
    return found


def covered(draw: Callable[[np.random.Generator], Interval | None], truth: float, times: int) -> float:
    random = np.random.default_rng(7)
    intervals = [draw(random) for _ in range(times)]
    return float(np.mean([one is not None and one[0] <= truth <= one[1] for one in intervals]))


def answers(random: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Of 100, 4 only the first has right, 1 only the second, 5 none."""
    kind = random.choice(4, n, p=[0.9, 0.04, 0.01, 0.05])
    return kind < 2, (kind == 0) | (kind == 2)


@pytest.mark.parametrize("n", [30, 200, 2000])
def test_the_difference_of_accuracies_is_covered(n: int) -> None:
    def draw(random: np.random.Generator) -> Interval:
        before, after = answers(random, n)
        return paired.difference(*paired.discordant(before, after), n)

    assert covered(draw, 0.03, 1000) > 0.93


def test_no_difference_among_few_is_no_certainty() -> None:
    low, high = paired.difference(0, 0, 20)
    assert low == -high
    assert 0.1 < high < 0.2
    assert paired.difference(0, 0, 20_000)[1] < 2e-4


def test_a_known_interval() -> None:
    """By hand: 10 and 3 of 50 that differ give 11/52 and 4/52."""
    low, high = paired.difference(9, 2, 48)
    assert (low + high) / 2 == pytest.approx(10 / 50 - 3 / 50)
    assert high - low == pytest.approx(2 * 1.959964 * ((13 / 50 - (7 / 50) ** 2) / 50) ** 0.5)


def test_samples_both_find_hard_widen_nothing() -> None:
    """Each accuracy of 1,000 has an interval of five points; their difference is known to a tenth of that."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 1000)
    before = random.normal(size=(1000, 4)) + np.eye(4)[labels]
    after = before.copy()
    after[:3] = -before[:3]
    found = lost(Classification, before, after, labels)
    assert found.metric == "accuracy"
    assert found.ci95 is not None
    assert found.ci95[0] <= found.value <= found.ci95[1]
    assert found.ci95[1] - found.ci95[0] < 0.01
    single = read(Classification(), before, labels)["accuracy"].ci95
    assert single[1] - single[0] > 0.05


def test_the_same_model_loses_nothing() -> None:
    random = np.random.default_rng(0)
    output, labels = random.normal(size=(500, 3)), random.normal(size=(500, 3))
    found = lost(Regression, output, output, labels)
    assert (found.value, found.ci95, found.n) == (0.0, (0.0, 0.0), 500)


def noisy(random: np.random.Generator, n: int, noise: float) -> tuple[Array, Array, Array]:
    labels = random.normal(size=(n, 1))
    before = labels + random.normal(size=(n, 1))
    return before, before + noise * random.normal(size=(n, 1)), labels


def test_the_share_of_an_error_is_covered() -> None:
    """The variances add up: 1 and 1 + 0.25."""

    def draw(random: np.random.Generator) -> Interval | None:
        return lost(Regression, *noisy(random, 300, 0.5)).ci95

    assert covered(draw, 1.25**0.5 - 1, 150) == pytest.approx(0.95, abs=0.05)


def test_the_difference_of_rank_correlations_is_covered() -> None:
    """Of normal values: 6 / pi arcsin(r / 2)."""

    def draw(random: np.random.Generator) -> Interval | None:
        before, after, labels = noisy(random, 200, 0.7)
        return lost(Similarity, before, after, labels).ci95

    truth = 6 / np.pi * (np.arcsin(0.5 / 2**0.5) - np.arcsin(0.5 / 2.49**0.5))
    assert covered(draw, float(truth), 80) == pytest.approx(0.95, abs=0.06)


def test_of_one_sample_nothing_can_be_told() -> None:
    one = np.ones((1, 1))
    found = lost(Regression, one, 2 * one, 0.5 * one)
    assert found.value == pytest.approx(2.0)
    assert found.ci95 is None


def test_a_share_of_nothing_is_no_drop() -> None:
    scores = Regression(), Regression()
    labels = np.arange(4.0)[:, None]
    metrics = [
        read(score, output, labels)["rmse"]
        for score, output in zip(scores, (labels, labels + 1), strict=True)
    ]
    evidence = scores[0].evidence(), scores[1].evidence()
    assert paired.drop((metrics[0], metrics[1]), evidence) is None


@pytest.mark.parametrize(
    ("make", "shape", "labels"),
    [
        (lambda: Positions(2), (60, 5, 4), (60, 5)),
        (lambda: LanguageModel(0, None), (60, 5, 4), (60, 5)),
        (lambda: Transcription(batch_first=True), (60, 5, 4), (60, 5)),
        (lambda: MultiLabel(0.0), (60, 4), (60, 4)),
        (lambda: MultiLabel(0.0), (60, 1), (60, 1)),
        (lambda: Pairs(None), (60, 8), (60,)),
    ],
)
def test_every_metric_has_a_drop_within_its_interval(
    make: Callable[[], Score], shape: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    before = random.normal(size=shape).astype(np.float32)
    after = before + random.normal(size=shape).astype(np.float32)
    highest = 2 if len(shape) == 2 else 4
    truth = random.integers(0, highest, labels)
    if len(labels) == 1:
        truth = np.repeat(random.permutation(30), 2)
    found = lost(make, before, after, truth)
    assert found.ci95 is not None
    low, high = found.ci95
    assert low < found.value < high
    assert lost(make, before, before, truth).value == 0
