from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.measure.transcription import Transcription, decoded, edits
from tests.compression.measure.scoring import read

TEXT = st.lists(st.integers(1, 4), max_size=9)


@given(TEXT, TEXT)
def test_edits_are_the_fewest(one: list[int], other: list[int]) -> None:
    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = one[i - 1] == other[j - 1]
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, least(i - 1, j - 1) + (not same))

    assert edits(np.array(one, int), np.array(other, int)) == least(len(one), len(other))


@pytest.mark.parametrize(
    ("steps", "read_as"),
    [([0, 0], []), ([1, 1, 0, 1, 2, 2], [1, 1, 2]), ([3, 2, 2, 0, 0, 2], [3, 2, 2]), ([4], [4])],
)
def test_best_path(steps: list[int], read_as: list[int]) -> None:
    assert decoded(np.array(steps)).tolist() == read_as


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("filler", [-1, 0])
def test_error_rate_of_characters(batch_first: bool, filler: int) -> None:
    steps = np.array([[1, 1, 0, 2, 0], [3, 0, 3, 3, 1], [0, 0, 0, 0, 0]])
    labels = np.array([[1, 2, filler, filler], [3, 3, filler, filler], [2, 1, 2, 3]])
    output = np.eye(5, dtype=np.float32)[steps]
    score = Transcription(batch_first)
    score.add(output if batch_first else output.swapaxes(0, 1), labels)
    found = {metric.name: metric for metric in score.metrics()}
    assert list(found) == ["cer", "sequence_accuracy"]
    assert found["cer"].value == (0 + 1 + 4) / 8
    assert not found["cer"].higher_is_better
    assert found["sequence_accuracy"].value == pytest.approx(1 / 3)


def test_labels_as_wide_as_the_steps_are_no_obstacle() -> None:
    steps = np.random.default_rng(0).integers(0, 4, (64, 9))
    labels = np.full_like(steps, -1)
    for row, path in zip(labels, steps, strict=True):
        letters = decoded(path)
        row[: len(letters)] = letters
    found = read(Transcription(True), np.eye(4)[steps], labels)
    assert (found["cer"].value, found["cer"].ci95) == (0, (0, 0))
    assert found["sequence_accuracy"].value == 1
