"""Tables of each kind: the same arrays, and errors by row and column."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from tests.compression.intake.test_image_folder import RAW, png

ROWS = {"x": [float(at) for at in range(20)], "label": ["ja", "nein"] * 10}


def load(data: bytes, folder: Path, name: str, **options: Any) -> tuple[Dataset, DatasetInspection]:
    (folder / "upload").write_bytes(data)
    inspection = load_dataset(folder / "upload", name, folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def arrow_bytes(table: pa.Table, new: Callable[..., Any] = ipc.new_file) -> bytes:
    buffer = io.BytesIO()
    with new(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


LINES = [f"{x};{label}" for x, label in zip(ROWS["x"], ROWS["label"], strict=True)]
FILES = {
    "x.parquet": parquet_bytes(pa.table(ROWS)),
    "x.arrow": arrow_bytes(pa.table(ROWS)),
    "stream.arrow": arrow_bytes(pa.table(ROWS), ipc.new_stream),
    "x.csv": b"\xef\xbb\xbf" + "\n".join(["x;label", *LINES]).encode(),
    "x.jsonl": "\n".join(
        f'{{"x": {x}, "label": "{label}"}}' for x, label in zip(ROWS["x"], ROWS["label"], strict=True)
    ).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_all_kinds_give_the_same(name: str, tmp_path: Path) -> None:
    data, inspection = load(FILES[name], tmp_path, name)
    assert inspection.classes == ("ja", "nein")
    assert inspection.splits == {"train": 12, "calibration": 4, "test": 4}
    x = np.concatenate([split.arrays["x"] for split in data.splits.values()])
    assert sorted(x) == ROWS["x"]
    assert all((split.arrays["x"] % 2 == split.labels).all() for split in data.splits.values())


def test_lists_keep_their_shape_and_images_are_decoded(tmp_path: Path) -> None:
    table = pa.table({"m": [[[1, 2], [3, 4]]] * 10, "image": [png(at) for at in range(10)]})
    data, _ = load(parquet_bytes(table), tmp_path, "x.parquet", **RAW)
    assert data.arrays["test/m"].shape == (2, 2, 2)
    assert data.arrays["test/image"].shape == (2, 3, 3, 4)


BAD = {
    "missing": ("x.csv", b"x,label\n1,a\n,b\n", "row 2, column 'x'"),
    "ragged": ("x.jsonl", b'{"x": [1, 2]}\n{"x": [1]}\n', "row 2, column 'x'"),
    "below": ("x.csv", b"x,label\n1,0\n2,-1\n", "row 2, column 'label'"),
    "words": ("x.csv", b"x,label\n1,0\nhello,1\n", "column 'x'"),
    "columns": ("x.csv", b"c," * 600_000 + b"c\n", "."),
    "footer": ("x.parquet", b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1", "footer"),
    "cut": ("x.parquet", FILES["x.parquet"][:-30], "."),
    "cut arrow": ("x.arrow", FILES["x.arrow"][:-30], "."),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    filename, data, why = BAD[name]
    with pytest.raises(CompressionError, match=f"invalid_dataset: .*{why}") as refusal:
        load(data, tmp_path, filename)
    assert str(tmp_path) not in refusal.value.detail


def test_a_small_parquet_that_becomes_large_is_refused(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"x": np.zeros(10_000_000)}))
    with pytest.raises(CompressionError, match="limit_decoded_bytes"):
        load(data, tmp_path, "x.parquet")
