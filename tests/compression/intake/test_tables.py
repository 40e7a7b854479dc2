"""Archives of tables: files for each split, and what `datasets` saves."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from pyarrow import ipc

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from tests.compression import hostile
from tests.compression.intake.test_table import arrow_bytes, parquet_bytes

FEATURES = {
    "x": {"dtype": "float64", "_type": "Value"},
    "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
}


def load(data: bytes, folder: Path, name: str = "x.zip", **options: Any) -> tuple[Dataset, DatasetInspection]:
    folder.mkdir(exist_ok=True)
    (folder / "upload").write_bytes(data)
    inspection = load_dataset(folder / "upload", name, folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def saved(folder: str, first: int, rows: int) -> dict[str, bytes]:
    """As `Dataset.save_to_disk` writes it: two files, and one of a cache that is no part of it."""
    schema = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    names = [f"data-{at:05}-of-00002.arrow" for at in range(2)]
    members = {
        f"{folder}/dataset_info.json": json.dumps({"features": FEATURES}).encode(),
        f"{folder}/state.json": json.dumps({"_data_files": [{"filename": name} for name in names]}).encode(),
        f"{folder}/cache-1.arrow": b"",
    }
    for at, name in enumerate(names):
        numbers = np.arange(first, first + rows)[at::2]
        table = pa.table({"x": numbers.astype(float), "label": numbers % 2}).replace_schema_metadata(schema)
        members[f"{folder}/{name}"] = arrow_bytes(table, ipc.new_stream)
    return members


def tar_zst(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return zstandard.compress(buffer.getvalue())


DICT = (
    {"data/dataset_dict.json": b'{"splits": ["train", "validation", "test"]}'}
    | saved("data/train", 0, 30)
    | saved("data/validation", 30, 10)
    | saved("data/test", 40, 10)
)


@pytest.mark.parametrize("kind", ["zip", "tar.zst"])
def test_saved_splits_are_kept(kind: str, tmp_path: Path) -> None:
    data, inspection = load(hostile.packed(DICT) if kind == "zip" else tar_zst(DICT), tmp_path, f"x.{kind}")
    assert inspection.splits == {"train": 30, "calibration": 10, "test": 10}
    assert inspection.classes == ("no", "yes")
    assert sorted(data.arrays["calibration/x"][:, 0]) == list(range(30, 40))
    assert (data.arrays["test/x"][:, 0] % 2 == data.arrays["test/label"]).all()


def test_a_saved_data_set_without_splits_is_split(tmp_path: Path) -> None:
    _, inspection = load(hostile.packed(saved("data", 0, 50)), tmp_path)
    assert inspection.splits == {"train": 30, "calibration": 10, "test": 10}


def test_files_of_tables_name_their_split(tmp_path: Path) -> None:
    tables = {
        "train-00000-of-00002.parquet": np.arange(6.0),
        "train-00001-of-00002.parquet": np.arange(6.0, 10),
        "more/dev/1.parquet": np.arange(10.0, 13),
        "test.parquet": np.arange(13.0, 15),
        "__MACOSX/._test.parquet": np.arange(1.0),
    }
    members = {name: parquet_bytes(pa.table({"x": values})) for name, values in tables.items()}
    data, inspection = load(hostile.packed(members), tmp_path)
    assert inspection.splits == {"train": 10, "calibration": 3, "test": 2}
    assert sorted(data.arrays["train/x"][:, 0]) == list(range(10))


BAD = {
    "lists what is not there": (
        {"state.json": b'{"_data_files": [{"filename": "../x.arrow"}]}', "data-1.arrow": b""},
        r"'state\.json' lists",
    ),
    "lists nothing": ({"state.json": b"[1]", "data-1.arrow": b""}, "lists no data files"),
    "half in splits": ({"train.csv": b"x\n1\n", "other.csv": b"x\n1\n"}, r"'other\.csv' is in no split"),
    "other columns": ({"test.csv": b"y\n1\n", "train.csv": b"x\n1\n"}, "there is no column 'y'"),
    "row of a file": ({"test.csv": b"x\n1\n", "train.csv": b'x\n1\n""\n'}, "'train.csv': row 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    members, why = BAD[name]
    with pytest.raises(CompressionError, match=rf"invalid_dataset: .*{why}"):
        load(hostile.packed(members), tmp_path)


def test_a_pickle_beside_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="member_refused"):
        load(hostile.packed({"train.csv": b"x\n1\n", "more.pkl": hostile.PICKLE}), tmp_path)
