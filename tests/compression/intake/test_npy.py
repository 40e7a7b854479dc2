"""A single array comes in, is split, written and examined."""

from pathlib import Path

import numpy as np
import pytest

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from tests.compression import hostile


def load(data: bytes, folder: Path, **options: object) -> tuple[Dataset, object]:
    (folder / "upload").write_bytes(data)
    inspection = load_dataset(folder / "upload", "x.npy", folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def test_an_array_becomes_an_input_without_labels(tmp_path: Path) -> None:
    rows = np.arange(400, dtype=np.float32).reshape(100, 4)
    data, inspection = load(hostile.npy(rows), tmp_path, inputs={"pixels": "pixels"})
    assert inspection.format == "npy"  # type: ignore[attr-defined]
    assert not inspection.labelled  # type: ignore[attr-defined]
    parts = np.concatenate([split.arrays["pixels"] for split in data.splits.values()])
    assert np.array_equal(np.sort(parts, axis=0), rows)
    assert [found.code for found in inspection.findings] == ["few_calibration_rows"]  # type: ignore[attr-defined]


def test_objects_and_lies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="npy_pickle"):
        load(hostile.npy(np.array([{}], object)), tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(CompressionError, match="invalid_npy"):
        load(hostile.npy(np.zeros(100))[:-8], tmp_path / "b")


def test_unknown_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as refusal:
        load(hostile.npy(np.zeros(100)), tmp_path, colour="RGB")
    assert [error.pointer for error in refusal.value.errors] == ["/colour"]
