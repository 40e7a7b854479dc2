"""Models and data sets of other kinds, through the sandbox of a running service."""

import io
import os
import zipfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
from PIL import Image

from tests.service import Service

PNGS = {
    "image": {"colour": "GRAY", "layout": "NHWC"},
    "splits": {"train": 0.5, "calibration": 0.25, "test": 0.25},
}


def pictures(count: int, broken: int) -> bytes:
    """A zip of two directories, one for each class."""
    file, rng = io.BytesIO(), np.random.default_rng(0)
    with zipfile.ZipFile(file, "w") as archive:
        for at in range(count):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(image, "PNG")
            content = image.getvalue()[:40] if at == broken else image.getvalue()
            archive.writestr(f"{('shirt', 'bôot')[at % 2]}/{at}.png", content)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_a_keras_network_and_an_archive_of_images(service: Service, tmp_path: Path) -> None:
    layers = keras.layers
    network = [
        keras.Input((12, 12, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(2),
    ]
    keras.Sequential(network).save(tmp_path / "model.keras")
    model = service.model((tmp_path / "model.keras").read_bytes(), "model.keras")
    data = service.dataset(pictures(80, broken=7), "pictures.zip", options=PNGS)

    assert model["state"] == "ready", model["error"]
    assert data["state"] == "ready", data["error"]
    assert model["inspection"]["conversion"]["difference"] < 1e-5
    assert data["inspection"]["classes"] == ["bôot", "shirt"]
    assert data["inspection"]["skipped"]["first"][0]["name"] == "bôot/7.png"
    job = service.finished(service.submit(model, data, {"technique": "static_quantization"}))
    assert job["state"] == "succeeded", job["error"]
    assert job["measurements"]["compressed"]["metric"]["n"] == data["inspection"]["splits"]["test"]


def test_a_table_names_what_is_wrong_with_it(service: Service) -> None:
    good = "a,pet\n" + "\n".join(f"{at}.5,{('cat', 'dog')[at % 2]}" for at in range(40))
    table = service.dataset(good.encode(), "pets.csv", options={"labels": "pet"})
    assert table["inspection"]["classes"] == ["cat", "dog"]
    missing = service.dataset((good + "\n,dog").encode(), "pets.csv", options={"labels": "pet"})
    assert (missing["state"], missing["error"]["code"]) == ("rejected", "invalid_dataset")
    assert "row 41, column 'a'" in missing["error"]["detail"]
    unknown = service.dataset(good.encode(), "pets.csv", options={"labels": "species"})
    assert "no column 'species'" in unknown["error"]["detail"]
