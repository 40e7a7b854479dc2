"""Images prepared as their model's image processor was saved."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from compression.intake.processor import _Config
from compression.preprocessing import ImageOptions
from tests.compression import hostile

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
VIT = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor", "resample": 2,
    "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224},
}  # fmt: skip
CLIP = VIT | {
    "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "do_convert_rgb": True,
    "crop_size": {"height": 224, "width": 200}, "image_processor_type": "CLIPImageProcessor",
}  # fmt: skip
CONVNEXT = VIT | {"crop_pct": 0.875, "size": {"shortest_edge": 224}}
OPTIONS = {
    "vit": (VIT, {"resize": (224, 224), "mean": (0.5,) * 3}),
    "square": (VIT | {"size": 224}, {"resize": (224, 224)}),
    "clip": (CLIP, {"resize": 224, "crop": (224, 200), "resample": "bicubic"}),
    "old clip": (CLIP | {"size": 224, "crop_size": 224}, {"resize": 224, "crop": (224, 224)}),
    "convnext": (CONVNEXT, {"resize": 256, "crop": (224, 224)}),
    "large convnext": (CONVNEXT | {"size": {"shortest_edge": 384}}, {"resize": (384, 384), "crop": None}),
    "mobilevit": (
        VIT | {"do_flip_channel_order": True, "do_normalize": False},
        {"colour": "BGR", "mean": ()},
    ),
    "plain": (VIT | {"do_rescale": False, "do_resize": False}, {"scale": 1, "resize": None}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_processor_is_understood(name: str) -> None:
    config, wanted = OPTIONS[name]
    options = _Config.model_validate(config).options().model_dump()
    assert {key: options[key] for key in wanted} == wanted


def load(folder: Path, config: bytes, **options: Any) -> tuple[Dataset, DatasetInspection]:
    random = np.random.default_rng(0)
    members = {"preprocessor_config.json": config}
    for at in range(10):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (30, 20, 3), np.uint8)).save(buffer, "PNG")
        members[f"{'ab'[at % 2]}/{at}.png"] = buffer.getvalue()
    (folder / "upload").write_bytes(hostile.packed(members))
    inspection = load_dataset(folder / "upload", "x.zip", folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def test_it_is_followed_where_the_owner_says_nothing(tmp_path: Path) -> None:
    config = {"size": {"shortest_edge": 10}, "resample": 3, "do_center_crop": True, "crop_size": 8,
              "do_pad": True, "image_mean": MEAN, "image_std": STD}  # fmt: skip
    data, inspection = load(tmp_path, json.dumps(config).encode())
    assert inspection.preprocessing is not None
    image = inspection.preprocessing.image
    assert (image.resize, image.crop, image.mean) == (10, (8, 8), tuple(MEAN))
    assert data.arrays["test/image"].shape == (2, 3, 8, 8)
    assert abs(data.arrays["train/image"].mean()) < 0.5
    told = inspection.findings[0]
    assert (told.code, told.severity) == ("preprocessor_config", "warning")
    assert "without do_pad" in told.detail


def test_the_owner_goes_before_it(tmp_path: Path) -> None:
    data, inspection = load(tmp_path, json.dumps(VIT).encode(), image={"resize": [4, 5]})
    assert data.arrays["test/image"].shape == (2, 3, 4, 5)
    assert inspection.preprocessing is not None
    assert inspection.preprocessing.image == ImageOptions(resize=(4, 5))


@pytest.mark.parametrize(
    "config",
    [
        b"{",
        b"[" * 100_000,
        b'{"size": 100000}',
        b'{"image_std": [0, 0, 0]}',
        b'{"resample": 9}',
        b'{"image_mean": [NaN]}',
        b'{"size": {"shortest_edge": 800, "longest_edge": 1333}}',
        b" " * (2 << 20),
    ],
)
def test_one_that_makes_no_sense_is_named(config: bytes, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"invalid_dataset: preprocessor_config\.json"):
        load(tmp_path, config)
