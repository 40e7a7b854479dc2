from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.search.budget import ENOUGH, MOST
from compression.search.selection import carve
from compression.validation import npz


def carved(folder: Path, **arrays: np.ndarray) -> tuple[Dataset, Dataset]:
    """Arrays by `split__name`. The whole, and what a search sees of it."""
    whole, seen = folder / "whole.npz", folder / "seen.npz"
    npz.write({name.replace("__", "/"): npz.Part(array) for name, array in sorted(arrays.items())}, whole)
    carve(whole, seen)
    return Dataset.open(whole), Dataset.open(seen)


def test_the_test_split_is_not_in_the_file(tmp_path: Path) -> None:
    train, test = np.arange(1000), np.arange(5000, 5100)
    whole, seen = carved(tmp_path, train__x=train, calibration__x=train[:64], test__x=test)
    everything = np.concatenate(list(seen.arrays.values()))
    assert not set(everything) & set(test)
    assert set(seen.arrays["train/x"]) | set(seen.arrays["test/x"]) == set(train)
    assert not set(seen.arrays["train/x"]) & set(seen.arrays["test/x"])
    assert len(seen.arrays["test/x"]) == 100
    assert np.array_equal(seen.arrays["calibration/x"], whole.arrays["calibration/x"])


def test_each_class_has_its_share(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [1000, 600, 400])
    _, seen = carved(tmp_path, train__x=np.arange(2000), train__label=labels)
    assert np.abs(np.bincount(seen.arrays["test/label"]) - [100, 60, 40]).max() <= 2
    assert np.array_equal(labels[seen.arrays["test/x"]], seen.arrays["test/label"])


def test_pairs_stay_together(tmp_path: Path) -> None:
    _, seen = carved(tmp_path, train__x=np.arange(400), train__label=np.repeat(np.arange(200) / 7, 2))
    taken = seen.arrays["test/x"].reshape(-1, 2)
    assert np.array_equal(taken[:, 0] + 1, taken[:, 1])
    assert not (taken[:, 0] % 2).any()


def test_half_of_the_calibration_samples_where_nothing_else_is_there(tmp_path: Path) -> None:
    _, seen = carved(tmp_path, calibration__x=np.arange(64), test__x=np.arange(100, 200))
    assert (len(seen.arrays["calibration/x"]), len(seen.arrays["test/x"])) == (32, 32)


def test_calibration_samples_beyond_those_that_calibrate_where_there_are_enough(tmp_path: Path) -> None:
    train, calibration = np.arange(9000), np.arange(20_000, 20_000 + ENOUGH)
    whole, seen = carved(tmp_path, train__x=train, calibration__x=calibration, test__x=np.arange(-50, 0))
    assert np.array_equal(seen.arrays["train/x"], whole.arrays["train/x"])
    assert (len(seen.arrays["calibration/x"]), len(seen.arrays["test/x"])) == (512, 1000)
    together = np.concatenate([seen.arrays["calibration/x"], seen.arrays["test/x"]])
    assert np.array_equal(np.sort(together), calibration)


def test_calibration_samples_without_labels_do_not_replace_those_of_train(tmp_path: Path) -> None:
    labels = np.arange(4000) % 10
    _, seen = carved(tmp_path, train__x=labels, train__label=labels, calibration__x=np.arange(ENOUGH))
    assert (len(seen.arrays["calibration/x"]), len(seen.arrays["test/x"])) == (ENOUGH, 400)


def test_not_more_than_needed_is_taken(tmp_path: Path) -> None:
    _, seen = carved(tmp_path, train__x=np.arange(100_000))
    assert len(seen.arrays["test/x"]) == MOST


@pytest.mark.parametrize(
    "arrays", [{"test__x": np.arange(10)}, {"train__x": np.arange(2), "test__x": np.arange(9)}]
)
def test_too_few_samples_are_named(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(CompressionError) as refused:
        carved(tmp_path, **arrays)
    assert refused.value.code == "too_few_samples"


@settings(max_examples=25, deadline=None)
@example(n=24, classes=3)
@given(n=st.integers(20, 400), classes=st.integers(1, 5))
def test_nothing_is_lost_or_seen_twice(
    tmp_path_factory: pytest.TempPathFactory, n: int, classes: int
) -> None:
    _, seen = carved(
        tmp_path_factory.mktemp("carved"), train__x=np.arange(n), train__label=np.arange(n) % classes
    )
    together = np.concatenate([seen.arrays["train/x"], seen.arrays["test/x"]])
    assert np.array_equal(np.sort(together), np.arange(n))
