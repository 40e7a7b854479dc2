"""What is shown of a data set of any kind."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compression.dataset import Dataset
from compression.dataset_preview import ColumnPreview
from compression.formats import load_dataset
from compression.intake.preview import preview
from tests.compression import hostile
from tests.compression.conftest import Pack
from tests.compression.intake import test_image_folder, test_table, test_tables, test_text


def columns_of(data: Dataset, split: str = "test") -> dict[str, ColumnPreview]:
    (shown,) = [shown for shown in preview(data).splits if shown.split == split]
    return {column.name: column for column in shown.columns}


def test_rows_ranges_and_classes(pack: Pack) -> None:
    x = np.array([[0, 1], [np.nan, 3], [4, 500]], np.float32)
    data = Dataset.open(pack({"test/x": x, "test/label": np.array([0, 2, 2])}))
    (shown,) = preview(data).splits
    assert shown.class_counts == (1, 0, 2)
    assert columns_of(data)["x"].model_dump() == {
        "name": "x", "low": 0, "high": 500, "rows": ((0, 1), (None, 3), (4, 500)), "thumbnails": (),
    }  # fmt: skip


def test_a_large_array_is_not_read_to_its_end(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.intake.preview._LOOKED_AT", 400)
    data = Dataset.open(pack({"test/x": np.arange(1000, dtype=np.float32)}))
    assert columns_of(data)["x"].high == 99


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_thumbnails_are_small_pngs(layout: str, channels: int, pack: Pack) -> None:
    """Stripes, so that a line or a channel out of place would show."""
    images = np.zeros((3, 200, 100, channels), np.uint8)
    images[:, ::8] = 77
    images[..., -1] += 3
    data = Dataset.open(pack({"test/image": images.transpose(0, 3, 1, 2) if layout == "NCHW" else images}))
    found = columns_of(data)["image"].thumbnails
    assert len(found) == 3
    image = Image.open(io.BytesIO(base64.b64decode(found[0].removeprefix("data:image/png;base64,"))))
    assert image.size == (25, 50)
    assert np.array_equal(np.asarray(image).reshape(50, 25, channels), images[0, ::4, ::4])


KINDS = {
    "image_folder": (hostile.packed(test_image_folder.members()), "x.zip", {"image"}),
    "table": (test_table.FILES["x.csv"], "x.csv", {"x"}),
    "texts": (test_text.packed(test_text.ROWS), "x.zip", {"input_ids", "attention_mask", "token_type_ids"}),
    "saved": (hostile.packed(test_tables.DICT), "x.zip", {"x"}),
    "npy": (hostile.npy(np.zeros((100, 2))), "x.npy", {"input"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_can_be_looked_at(kind: str, tmp_path: Path) -> None:
    data, name, inputs = KINDS[kind]
    (tmp_path / "upload").write_bytes(data)
    inspection = load_dataset(tmp_path / "upload", name, tmp_path / "out", tmp_path)
    data_set = Dataset.open(tmp_path / "out")
    columns = columns_of(data_set)
    assert set(columns) - {"label"} == inputs
    assert all(column.rows and column.low is not None for column in columns.values())
    assert {shown.split: shown.class_counts for shown in preview(data_set).splits if shown.class_counts} == (
        inspection.class_counts
    )
    assert [len(column.thumbnails) for column in columns.values() if column.name == "image"] in ([], [8])


def test_it_needs_no_library_but_numpy() -> None:
    code = (
        "import sys; import compression.intake.preview; "
        "print({'PIL', 'pyarrow', 'torch', 'onnx', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
