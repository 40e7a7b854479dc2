"""What the data doctor says of normalised data sets."""

from pathlib import Path

import numpy as np
import pytest

from compression import doctor
from compression.dataset import Dataset
from compression.formats import load_dataset
from compression.inspection import Finding
from tests.compression.conftest import Pack

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.standard_normal((360, 1, 4, 4)).astype(np.float32)
LABELS = np.arange(120) % 3


def examined(pack: Pack, prepared: bool = False, **changed: np.ndarray) -> dict[str, Finding]:
    """A data set in order, but for what is changed; names are split__array."""
    arrays = {
        f"{split}/{name}": array
        for at, split in enumerate(("train", "calibration", "test"))
        for name, array in (("image", IMAGES[at * 120 : (at + 1) * 120]), ("label", LABELS))
    }
    arrays |= {name.replace("__", "/"): array for name, array in changed.items()}
    found = doctor.findings(Dataset.open(pack(arrays)), prepared=prepared)
    return {finding.code: finding for finding in found}


def test_what_is_in_order_is_left_alone(pack: Pack) -> None:
    assert examined(pack, prepared=True) == {}


def test_few_rows_calibrate(pack: Pack) -> None:
    few = {"calibration__image": IMAGES[:99], "calibration__label": LABELS[:99]}
    assert "99 rows" in examined(pack, **few)["few_calibration_rows"].detail


def test_a_class_that_a_split_lacks(pack: Pack) -> None:
    found = examined(pack, test__label=np.arange(120) % 2)
    assert found["classes_missing"].detail == "split 'test' has no sample of 1 classes: 2"


def test_classes_counted_from_one(pack: Pack) -> None:
    changed = {f"{split}__label": LABELS + 1 for split in ("train", "calibration", "test")}
    assert "from 1 to 3" in examined(pack, **changed)["labels_from_one"].detail


def test_rows_of_test_that_are_in_train(pack: Pack) -> None:
    test = IMAGES[240:].copy()
    test[[5, 9]] = IMAGES[[7, 3]]
    found = examined(pack, test__image=test)["train_test_duplicates"]
    assert found.detail == "2 of 120 rows of test are in train too: rows 5, 9"


def test_values_that_are_no_numbers(pack: Pack) -> None:
    test = IMAGES[240:].copy()
    test[[5, 9]] = np.nan
    found = examined(pack, test__image=test)["not_finite"]
    assert (found.severity, found.detail) == (
        "error", "image: rows hold NaN or infinite values: 2 of test (row 5 first)",
    )  # fmt: skip


def test_columns_and_arrays_that_never_change(pack: Pack) -> None:
    rows = RANDOM.standard_normal((120, 5)).astype(np.float32)
    rows[:, [1, 4]] = 7
    found = examined(pack, train__x=rows, calibration__x=rows, test__x=rows[::-1].copy())
    assert "2 of the 5 columns of x never change: 1, 4" in found["constant"].detail
    found = examined(pack, **{f"{split}__x": rows[:, 1:2] for split in ("train", "calibration", "test")})
    assert found["constant"].detail == "every value of x is 7"
    found = examined(pack, **{f"{split}__x": np.zeros((120, 3, 2), np.uint8) for split in ("train", "test")})
    assert found["constant"].detail == "every value of x is 0"


@pytest.mark.parametrize(
    ("scale", "shift", "code"),
    [(60, 0, "out_of_range"), (1e-3, 0.5, "out_of_range"), (1, 0, None), (2, 0.5, None)],
)
def test_images_prepared_as_no_model_takes_them(
    scale: float, shift: float, code: str | None, pack: Pack
) -> None:
    changed = {
        f"{split}__image": (IMAGES[at * 120 : (at + 1) * 120] * scale + shift).astype(np.float32)
        for at, split in enumerate(("train", "calibration", "test"))
    }
    assert set(examined(pack, prepared=True, **changed)) == ({code} if code else set())
    assert examined(pack, **changed) == {}


def test_pixels_not_scaled_and_splits_scaled_apart(pack: Pack) -> None:
    raw = RANDOM.uniform(0, 255, (120, 1, 4, 4)).astype(np.float32)
    changed = {"train__image": raw, "calibration__image": raw[::-1].copy(), "test__image": raw * 0.99}
    assert set(examined(pack, **changed)) == {"unscaled"}
    found = examined(pack, train__image=raw, calibration__image=raw[::-1].copy(), test__image=raw / 255)
    assert set(found) == {"splits_differ"}


def test_npz_uploads_are_examined_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "upload", x=np.zeros((50, 3), np.float32), label=np.arange(50) % 2)
    inspection = load_dataset(tmp_path / "upload.npz", "x.npz", tmp_path / "out", tmp_path)
    assert {finding.code for finding in inspection.findings} >= {"few_calibration_rows", "constant"}
    assert sum(inspection.class_counts["test"]) == 10
    assert inspection.preprocessing is None
