"""What is shown of a data set, and what the doctor says of it."""

import base64
import io

import numpy as np
from PIL import Image

from compression import doctor
from compression.dataset import Dataset
from compression.intake.preview import preview
from tests.compression.conftest import Pack


def test_rows_ranges_and_classes(pack: Pack) -> None:
    x = np.array([[0, 1], [np.nan, 3], [4, 500]], np.float32)
    shown = preview(Dataset.open(pack({"test/x": x, "test/label": np.array([0, 2, 2])})))
    (test,) = shown.splits
    columns = {column.name: column for column in test.columns}
    assert (test.split, test.class_counts) == ("test", (1, 0, 2))
    assert (columns["x"].low, columns["x"].high) == (0, 500)
    assert columns["x"].rows == ((0, 1), (None, 3), (4, 500))


def test_thumbnails_are_small_pngs(pack: Pack) -> None:
    images = np.full((3, 3, 200, 100), 77, np.uint8)
    data = Dataset.open(pack({"test/image": images, "test/x": images.astype(np.float32)[..., 0]}))
    first, flat = preview(data).splits[0].columns
    assert (len(first.thumbnails), flat.thumbnails) == (3, ())
    kind, _, content = first.thumbnails[0].partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == (25, 50)
    assert image.getpixel((3, 3)) == (77, 77, 77)


def test_the_doctor_finds_what_is_wrong(pack: Pack) -> None:
    random = np.random.default_rng(0)
    train, label = random.uniform(0, 255, (120, 1, 4, 4)).astype(np.float32), np.arange(120) % 3
    data = Dataset.open(pack({
        "train/image": train, "train/label": label, "calibration/image": train, "calibration/label": label,
        "test/image": train[:2], "test/label": label[:2],
    }))  # fmt: skip
    codes = [found.code for found in doctor.findings(data)]
    assert codes == ["classes_missing", "train_test_duplicates", "unscaled", "unscaled", "unscaled"]
    bad = np.zeros((120, 2), np.float32)
    bad[3] = np.nan
    data = Dataset.open(pack({"test/x": bad, "calibration/x": train.reshape(120, -1) / 255}))
    assert [found.code for found in doctor.findings(data)] == ["not_finite", "constant"]
