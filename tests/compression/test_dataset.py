import tracemalloc

import numpy as np
import pytest

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.inspection import TensorSpec
from tests.compression.conftest import Pack

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 2, 2))


def test_arrays_come_back_by_split_aligned_and_unchanged(pack: Pack) -> None:
    image = np.arange(48, dtype=np.float32).reshape(12, 2, 2)
    fortran = np.asfortranarray(image + 1)
    data = Dataset.open(
        pack({"test/image": image, "calibration/image": fortran, "test/label": np.arange(12)})
    )
    test, calibration = data.splits["test"], data.splits["calibration"]
    assert np.array_equal(test.arrays["image"], image)
    assert np.array_equal(calibration.arrays["image"], fortran)
    assert np.array_equal(test.labels, np.arange(12))  # type: ignore[arg-type]
    assert calibration.labels is None
    assert all(array.ctypes.data % 64 == 0 for array in data.arrays.values())
    assert data.inspection.splits == {"calibration": 12, "test": 12}
    assert data.inspection.labelled


def test_unsplit_arrays_are_split_the_same_each_time_and_nothing_is_lost(pack: Pack) -> None:
    rows = np.arange(100)
    first, second = (Dataset.open(pack({"x": rows * 2, "label": rows})) for _ in range(2))
    assert first.inspection.splits == {"calibration": 20, "test": 20, "train": 60}
    parts = [split.arrays["x"] for split in first.splits.values()]
    assert sorted(np.concatenate(parts)) == sorted(rows * 2)
    for name, split in first.splits.items():
        assert np.array_equal(split.arrays["x"], second.splits[name].arrays["x"])
        assert np.array_equal(split.arrays["x"], np.asarray(split.labels) * 2)


def test_calibration_is_taken_from_train(pack: Pack) -> None:
    data = Dataset.open(pack({"train/x": np.arange(2000), "test/x": np.arange(3)}))
    assert data.inspection.splits == {"calibration": 512, "test": 3, "train": 2000}


def test_batches_are_cast_and_the_last_is_short(pack: Pack) -> None:
    split = Dataset.open(pack({"test/pixels": np.arange(20, dtype=np.uint8).reshape(5, 2, 2)})).splits["test"]
    batches = [batch["image"] for batch in split.batches([IMAGE], 2)]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert {batch.dtype for batch in batches} == {np.dtype("float32")}
    assert np.array_equal(np.concatenate(batches).ravel(), np.arange(20))


def test_inputs_without_batch_axis_get_one_sample_a_run(pack: Pack) -> None:
    arrays = {
        "test/x": np.zeros((3, 7), np.float32),
        "test/state": np.ones((3, 2, 1, 4), np.float32),
        "test/rate": np.arange(3),
    }
    split = Dataset.open(pack(arrays)).splits["test"]
    inputs = [
        TensorSpec(name="x", dtype="float32", shape=("batch", 7)),
        TensorSpec(name="state", dtype="float32", shape=(2, "batch", 4)),
        TensorSpec(name="rate", dtype="int64", shape=()),
    ]
    batches = list(split.batches(inputs, 64))
    assert [{name: value.shape for name, value in batch.items()} for batch in batches] == [
        {"x": (1, 7), "state": (2, 1, 4), "rate": ()}
    ] * 3
    assert [int(batch["rate"]) for batch in batches] == [0, 1, 2]


def test_a_misfit_is_refused(pack: Pack) -> None:
    split = Dataset.open(pack({"test/image": np.zeros((5, 3, 3), np.uint8)})).splits["test"]
    with pytest.raises(CompressionError, match="dataset_misfit"):
        next(split.batches([IMAGE], 2))


def test_memory_is_flat_in_the_number_of_samples(pack: Pack) -> None:
    path = pack({"test/image": np.random.default_rng(0).integers(0, 255, (200_000, 2, 2), np.uint8)})
    tracemalloc.start()
    split = Dataset.open(path).splits["test"]
    for _ in split.batches([IMAGE], 64):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"test/x": np.zeros((3, 2)), "test/label": np.zeros(4)}, "differ in their number of samples"),
        ({"validation/x": np.zeros((3, 2))}, "split one of train, calibration, test"),
        ({"test/x": np.zeros((3, 2)), "y": np.zeros(3)}, "either every array is under a split"),
        ({"test/label": np.zeros(3)}, "labels but no inputs"),
        ({"label": np.zeros(3)}, "labels but no inputs"),
        ({"x": np.zeros((3, 0))}, "none may be empty"),
        ({"x": np.float32(1)}, "first axis must count samples"),
        ({"x": np.array(["a", "b"])}, "numbers of at most 64 bits"),
    ],
)
def test_what_is_no_data_set_says_why(pack: Pack, arrays: dict[str, np.ndarray], why: str) -> None:
    with pytest.raises(CompressionError) as refusal:
        pack(arrays)
    assert refusal.value.code in {"invalid_dataset", "invalid_npy"}
    assert why in refusal.value.detail
