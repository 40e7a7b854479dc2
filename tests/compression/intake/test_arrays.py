"""What options make of arrays: done as of images and tables, or refused by name; never passed over."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from tests.compression import hostile

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 6, 8), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (20, 6, 8, 3), dtype=np.uint8)
FLOATS = RANDOM.random((20, 3, 6, 8))
FLAT = RANDOM.integers(0, 256, (20, 48), dtype=np.uint8)
CLASSES = np.arange(20) % 4


def load(
    folder: Path, arrays: dict[str, Any], name: str = "x.npz", **options: Any
) -> tuple[Dataset, DatasetInspection]:
    packed = hostile.packed({f"{key}.npy": hostile.npy(array) for key, array in arrays.items()})
    (folder / "upload").write_bytes(packed)
    inspection = load_dataset(folder / "upload", name, folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def rows(data: Dataset, name: str) -> Any:
    return np.concatenate([own.arrays[name] for own in data.splits.values()])


def test_without_options_arrays_stay_as_they_are(tmp_path: Path) -> None:
    data, inspection = load(tmp_path, {"test/x": GREY, "test/label": CLASSES})
    assert inspection.preprocessing is None
    assert np.array_equal(data.arrays["test/x"], GREY)


def test_arrays_are_chosen_and_named(tmp_path: Path) -> None:
    arrays = {"test/a": GREY, "test/b": FLAT, "test/y": CLASSES, "test/label": CLASSES + 1}
    names = ("nul", "een", "twee", "drie")
    data, inspection = load(tmp_path, arrays, inputs={"x": "b"}, labels="y", classes=names)
    assert set(data.arrays) == {"test/x", "test/label"}
    assert np.array_equal(data.arrays["test/x"], FLAT)
    assert np.array_equal(data.arrays["test/label"], CLASSES)
    assert inspection.classes == names
    assert inspection.class_counts["test"] == (5, 5, 5, 5)
    assert inspection.preprocessing is not None
    assert inspection.preprocessing.image.scale == 1  # nothing was done to the pixels


def test_fractions_keep_classes_in_their_share(tmp_path: Path) -> None:
    shares = {"train": 0.2, "calibration": 0.2, "test": 0.6}
    _, inspection = load(tmp_path, {"x": GREY, "label": CLASSES}, splits=shares, seed=3)
    assert inspection.splits == {"train": 4, "calibration": 4, "test": 12}
    assert inspection.class_counts["test"] == (3, 3, 3, 3)


MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def test_pixels_become_what_those_of_images_become(tmp_path: Path) -> None:
    image = {"resize": [5, 4], "crop": [4, 3], "colour": "BGR", "mean": MEAN, "std": STD, "layout": "NCHW"}
    data, inspection = load(tmp_path, {"test/x": COLOUR}, image=image)
    expected = np.stack([np.asarray(Image.fromarray(one).resize((4, 5), 2)) for one in COLOUR])
    expected = expected[:, 0:4, 0:3, ::-1].transpose(0, 3, 1, 2) / 255
    shape = (-1, 1, 1)
    expected = (expected - np.reshape(MEAN, shape)) / np.reshape(STD, shape)
    assert data.arrays["test/x"].dtype == np.float32
    np.testing.assert_allclose(data.arrays["test/x"], expected, atol=1e-6)
    assert inspection.preprocessing is not None
    assert inspection.preprocessing.image.resize == (5, 4)


def test_floats_are_scaled_only_where_that_is_said(tmp_path: Path) -> None:
    data, inspection = load(tmp_path, {"test/x": FLOATS}, image={"mean": MEAN, "layout": "NHWC"})
    expected = FLOATS.transpose(0, 2, 3, 1) - MEAN
    np.testing.assert_allclose(data.arrays["test/x"], expected, atol=1e-6)
    assert inspection.preprocessing is not None
    done = inspection.preprocessing.image
    assert (done.scale, done.layout, done.colour) == (1.0, "NHWC", "RGB")


def test_floats_are_resized(tmp_path: Path) -> None:
    data, _ = load(tmp_path, {"test/x": np.full((3, 3, 6, 8), 0.25)}, image={"resize": [3, 4]})
    assert np.array_equal(data.arrays["test/x"], np.full((3, 3, 3, 4), 0.25, np.float32))


@pytest.mark.parametrize(
    ("image", "shape"),
    [({}, (6, 8)), ({"layout": "NCHW"}, (1, 6, 8)), ({"layout": "NHWC", "dtype": "uint8"}, (6, 8, 1))],
)
def test_an_axis_of_channels_is_made_where_a_layout_is_said(
    image: dict[str, Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    data, _ = load(tmp_path, {"test/x": GREY}, image=image)
    scale = 1 if "dtype" in image else np.float32(1 / 255)
    assert np.array_equal(data.arrays["test/x"], GREY.reshape(20, *shape) * scale)


def test_vectors_of_pixels_are_scaled(tmp_path: Path) -> None:
    data, _ = load(tmp_path, {"x": FLAT, "label": CLASSES}, image={"scale": 0.5, "mean": [1], "std": [2]})
    expected = (FLAT * np.float32(0.5) - 1) / 2
    assert np.array_equal(np.sort(rows(data, "x"), axis=0), np.sort(expected, axis=0))


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "text": ({"x": FLAT}, {"text": {"max_length": 4}}, "/text"),
    "broken images": ({"x": FLAT}, {"max_broken": 1}, "/max_broken"),
    "two splits": ({"test/x": FLAT}, {"splits": {}}, "/splits"),
    "seed of splits": ({"test/x": FLAT}, {"seed": 1}, "/seed"),
    "column of splits": ({"x": FLAT}, {"splits": "part"}, "/splits"),
    "several arrays": ({"x": FLAT, "y": FLAT}, {"inputs": {"z": ["x", "y"]}}, "/inputs/z"),
    "unknown array": ({"x": FLAT}, {"inputs": {"z": "y"}}, "/inputs/z"),
    "unknown in a split": ({"test/x": FLAT, "train/y": FLAT}, {"inputs": {"x": "x"}}, "/inputs/x"),
    "an input of labels": ({"x": FLAT, "y": FLAT}, {"inputs": {"label": "y"}}, "/inputs/label"),
    "unknown labels": ({"x": FLAT}, {"labels": "y"}, "/labels"),
    "classes of nothing": ({"x": FLAT}, {"classes": ["a", "b"]}, "/classes"),
    "a class twice": ({"x": FLAT, "label": CLASSES}, {"classes": ["a", "b", "a", "c"]}, "/classes"),
    "no image": ({"x": CLASSES}, {"image": {"scale": 1}}, "/image"),
    "two images": ({"x": GREY, "y": GREY}, {"image": {"scale": 1}}, "/image"),
    "wide integers": ({"x": GREY.astype(int)}, {"image": {"scale": 1}}, "/image"),
    "bytes of floats": ({"x": FLOATS}, {"image": {"dtype": "uint8"}}, "/image/dtype"),
    "layout of vectors": ({"x": FLAT}, {"image": {"layout": "NHWC"}}, "/image/layout"),
    "crop of cubes": ({"x": np.zeros((9, 4, 4, 4, 4))}, {"image": {"crop": [1, 1]}}, "/image/crop"),
    "colours of grey": ({"x": GREY}, {"image": {"colour": "BGR"}}, "/image/colour"),
    "means of grey": ({"x": GREY}, {"image": {"mean": MEAN}}, "/image/mean"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_apply_is_named(name: str, tmp_path: Path) -> None:
    arrays, options, pointer = BAD[name]
    with pytest.raises(CompressionError, match=f"invalid_options: .* {pointer}: ") as refusal:
        load(tmp_path, arrays, **options)
    assert pointer in [error.pointer for error in refusal.value.errors]


def test_a_label_without_a_name_is_told_by_row(tmp_path: Path) -> None:
    with pytest.raises(
        CompressionError, match=r"invalid_dataset: row 3, column 'test/label': the label is 2"
    ):
        load(tmp_path, {"test/x": FLAT, "test/label": CLASSES}, classes=["a", "b"])


def test_a_crop_larger_than_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="image_size"):
        load(tmp_path, {"x": GREY}, image={"crop": [7, 7]})
