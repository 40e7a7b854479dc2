"""What labels ask is told from shapes and values, unless it is said."""

from collections.abc import Mapping

import numpy as np
import pytest

from compression.measure.task import Seen, Told, class_axis, tell
from compression.measurement import WantedTask

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 50, (10, 6))


@pytest.mark.parametrize(
    ("output", "labels", "axis"),
    [
        ((8, 10), (8,), 1),
        ((8, 5, 10), (8, 5), 2),
        ((8, 10, 4, 4), (8, 4, 4), 1),
        ((8, 1), (8,), None),
        ((8, 3), (8, 3), None),
    ],
)
def test_where_the_classes_are(output: tuple[int, ...], labels: tuple[int, ...], axis: int | None) -> None:
    assert class_axis(output, labels) == axis


def seen(
    shape: tuple[int, ...], labels: np.ndarray, inputs: Mapping[str, np.ndarray] | None = None, last: str = ""
) -> Seen:
    """An output of two samples, normal numbers."""
    output = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return Seen(output, 2, labels, inputs or {}, last)


def ahead(tokens: np.ndarray) -> np.ndarray:
    return np.concatenate([tokens[:, 1:], np.full((len(tokens), 1), -100)], axis=1)


def padded(tokens: np.ndarray) -> np.ndarray:
    return np.where(np.arange(tokens.shape[1]) < 4, tokens, -100)


@pytest.mark.parametrize(
    ("shape", "labels", "told"),
    [
        ((2, 10), np.arange(10), Told("classification", 1)),
        ((2, 10), np.arange(10, dtype=np.uint8), Told("classification", 1)),
        ((2, 6, 50), RANDOM.integers(-1, 9, (10, 6)), Told("tokens", 2)),
        ((2, 50, 6, 6), RANDOM.integers(0, 9, (10, 6, 6)), Told("tokens", 1)),
        ((2, 6, 50), TOKENS, Told("language_model", 2, ahead=1)),
        ((2, 6, 50), padded(TOKENS), Told("language_model", 2, ahead=1)),
        ((2, 6, 50), ahead(TOKENS), Told("language_model", 2, ahead=0)),
        ((2, 6, 50), ahead(padded(TOKENS)), Told("language_model", 2, ahead=0)),
        ((2, 4), RANDOM.integers(0, 2, (10, 4)), Told("multilabel")),
        ((2, 4), RANDOM.random((10, 4)) > 0.5, Told("multilabel")),
        ((2, 1), RANDOM.integers(0, 2, 10).astype(np.float32), Told("multilabel")),
        ((2, 4), RANDOM.normal(size=(10, 4)), Told("regression")),
        ((2, 1), np.arange(10), Told("regression")),
        ((2, 9, 5), np.full((10, 4), -1), Told("ctc", 2)),
        ((9, 2, 5), np.full((10, 4), -1), Told("ctc", 2, batch_first=False)),
        ((2, 9, 5), RANDOM.normal(size=(10, 4)), None),
        ((2, 16), RANDOM.normal(size=10), None),
    ],
)
def test_as_it_looks(shape: tuple[int, ...], labels: np.ndarray, told: Told | None) -> None:
    assert tell(seen(shape, labels, {"mask": np.ones_like(TOKENS), "ids": TOKENS})) == told


SCORES = np.repeat(RANDOM.normal(size=5), 2)


@pytest.mark.parametrize(
    ("wanted", "shape", "labels", "told"),
    [
        ("ctc", (2, 9, 5), np.full((10, 9), -1), Told("ctc", 2)),
        ("tokens", (2, 6, 50), TOKENS, Told("tokens", 2)),
        ("language_model", (2, 6, 50), TOKENS[::-1], Told("language_model", 2)),
        ("regression", (2, 4), RANDOM.integers(0, 2, (10, 4)), Told("regression")),
        ("similarity", (2, 1), RANDOM.normal(size=10), Told("similarity")),
        ("similarity", (2, 16), SCORES, Told("similarity", pairs=True)),
        ("similarity", (2, 6, 16), SCORES[:, None], Told("similarity", pairs=True)),
        ("similarity", (2, 16), np.repeat(np.arange(5), 2), Told("similarity", pairs=True)),
        ("similarity", (2, 16), RANDOM.normal(size=10), None),
        ("similarity", (2, 16), RANDOM.normal(size=9), None),
        ("classification", (2, 6, 50), TOKENS, None),
        ("multilabel", (2, 4), RANDOM.normal(size=(10, 4)), None),
        ("language_model", (2, 10), np.arange(10), None),
    ],
)
def test_as_it_is_said(
    wanted: WantedTask, shape: tuple[int, ...], labels: np.ndarray, told: Told | None
) -> None:
    assert tell(seen(shape, labels, {"ids": TOKENS}), wanted) == told


def test_classes_of_integers_and_labels_that_are_texts_ask_nothing() -> None:
    assert tell(Seen(np.zeros((2, 5), np.int64), 2, np.arange(10), {})) is None
    assert tell(seen((2, 5), np.full(10, "cat"))) is None


@pytest.mark.parametrize(
    ("output", "last", "threshold"),
    [
        (RANDOM.normal(size=(2, 40)), "", 0.0),
        (RANDOM.random((2, 40)), "", 0.5),
        (RANDOM.random((2, 4)), "", 0.0),
        (RANDOM.random((2, 4)), "Sigmoid", 0.5),
        (RANDOM.random((2, 4)), "HardSigmoid", 0.5),
    ],
)
def test_what_says_yes(output: np.ndarray, last: str, threshold: float) -> None:
    """A few numbers may lie between 0 and 1 by accident."""
    labels = np.zeros((2, output.shape[1]))
    assert tell(Seen(output, 2, labels, {}, last)) == Told("multilabel", threshold=threshold)
