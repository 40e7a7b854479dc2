"""Labels that are texts to be read: symbols in the model's order, after the blank."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from compression.measure.transcription import Transcription
from tests.compression import hostile
from tests.compression.intake.test_image_folder import RAW, png
from tests.compression.intake.test_table import parquet_bytes

PLATES = ["007", "10", "1", "700"] * 10


def load(data: bytes, folder: Path, name: str, **options: Any) -> tuple[Dataset, DatasetInspection]:
    (folder / "upload").write_bytes(data)
    options = {"transcriptions": True, **options}
    inspection = load_dataset(folder / "upload", name, folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def csv(texts: list[str]) -> bytes:
    return "\n".join(["x,label", *(f'{at},"{text}"' for at, text in enumerate(texts))]).encode()


def jsonl(texts: list[str]) -> bytes:
    return "\n".join(json.dumps({"x": at, "label": text}) for at, text in enumerate(texts)).encode()


def folder(texts: list[str]) -> bytes:
    rows = "\n".join(f'{at}.png,"{text}"' for at, text in enumerate(texts))
    images = {f"{at}.png": png(at) for at in range(len(texts))}
    return hostile.packed(images | {"labels.csv": f"file,label\n{rows}".encode()})


WRITTEN: dict[str, tuple[str, Callable[[list[str]], bytes], dict[str, Any]]] = {
    "csv": ("x.csv", csv, {}),
    "csv in an archive": ("x.zip", lambda texts: hostile.packed({"rows.csv": csv(texts)}), {}),
    "jsonl": ("x.jsonl", jsonl, {}),
    "parquet": (
        "x.parquet",
        lambda texts: parquet_bytes(pa.table({"x": [*map(float, range(len(texts)))], "label": texts})),
        {},
    ),
    "images": ("x.zip", folder, RAW),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_digits_stay_as_they_are_written(kind: str, tmp_path: Path) -> None:
    name, write, options = WRITTEN[kind]
    data, inspection = load(write(PLATES), tmp_path, name, **options)
    assert inspection.classes == ("<blank>", "0", "1", "7")
    found = {tuple(row) for row in data.arrays["train/label"]}
    assert found == {(1, 1, 3), (2, 1, -1), (2, -1, -1), (3, 1, 1)}
    (told,) = [finding for finding in inspection.findings if finding.code == "transcriptions"]
    assert told.severity == "warning"
    assert "at most 3 out of 3 symbols" in told.detail
    assert "gives 4 classes" in told.detail


@pytest.mark.parametrize("blank", [[], ["<blank>"]])
def test_symbols_have_the_order_of_the_model(blank: list[str], tmp_path: Path) -> None:
    """Of several letters, too: the longest that fits."""
    symbols = ["s", "c", "sch", "h", " "]
    data, inspection = load(csv(["sch sh"] * 20), tmp_path, "x.csv", classes=[*blank, *symbols])
    assert inspection.classes == ("<blank>", *symbols)
    assert np.array_equal(data.arrays["test/label"][0], [3, 5, 1, 4])
    assert [finding.severity for finding in inspection.findings if finding.code == "transcriptions"] == [
        "info"
    ]


def test_they_are_scored_as_read(tmp_path: Path) -> None:
    data, inspection = load(csv(["aab", "b"] * 20), tmp_path, "x.csv")
    labels = data.arrays["train/label"][:1]
    wanted = [code for code in labels[0] if code > 0]
    path = [0, *(step for code in wanted for step in (code, code, 0))]
    score = Transcription(batch_first=True)
    score.add(np.eye(len(inspection.classes))[[path]], labels)
    assert score.metrics()[0].value == 0


BAD = {
    "unknown symbol": (
        ["ab", "abx"],
        {"classes": ["a", "b"]},
        "row 2, column 'label': 'x' of 'abx' is none",
    ),
    "missing": (["ab", ""], {}, "row 2, column 'label': the value is missing"),
    "twice": (["ab"], {"classes": ["a", "b", "a"]}, "names a class twice"),
}


@pytest.mark.parametrize("kind", ["csv", "images"])
@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, kind: str, tmp_path: Path) -> None:
    texts, options, why = BAD[name]
    filename, write, more = WRITTEN[kind]
    with pytest.raises(CompressionError, match=f"invalid_dataset: .*{why}"):
        load(write(texts), tmp_path, filename, **options, **more)


@pytest.mark.parametrize(
    ("name", "data"), [("x.csv", b"x\n1\n2\n"), ("x.zip", hostile.packed({"1.png": png(1), "2.png": png(2)}))]
)
def test_without_labels_there_are_none(name: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"invalid_options: .* /labels: there are no labels"):
        load(data, tmp_path, name)


def test_arrays_hold_none(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"invalid_options: .* /transcriptions: "):
        load(hostile.packed({"x.npy": hostile.npy(np.zeros((9, 2)))}), tmp_path, "x.npz")
