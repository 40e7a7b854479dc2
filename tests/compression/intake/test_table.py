"""Tables of each kind: the same arrays, and errors by row and column."""

import io
import json
import struct
import tracemalloc
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
    assert sorted(x[:, 0]) == ROWS["x"]
    assert all((split.arrays["x"][:, 0] % 2 == split.labels).all() for split in data.splits.values())


HEADER = b"a,b,c,label\n"
THREE = HEADER + b"".join(b"%d,%d.5,%d,%d\n" % (at, at, -at, at % 2) for at in range(20))


def test_columns_of_numbers_are_the_features_of_one_row(tmp_path: Path) -> None:
    data, inspection = load(THREE, tmp_path, "x.csv")
    features = data.arrays["test/features"]
    assert (features.shape, features.dtype) == ((4, 3), np.float32)
    assert (features[:, 1] - features[:, 0] == 0.5).all()
    assert (features[:, 0] == -features[:, 2]).all()
    assert inspection.findings[0].code == "columns_joined"
    assert "'a', 'b', 'c'" in inspection.findings[0].detail


def test_inputs_are_made_of_the_columns_named(tmp_path: Path) -> None:
    data, inspection = load(THREE, tmp_path, "x.csv", inputs={"x": ["c", "a"], "other": "b"})
    x, other = data.arrays["test/x"], data.arrays["test/other"]
    assert (x[:, 0] == -x[:, 1]).all()
    assert (other.shape, other.dtype) == ((4,), np.float64)
    assert "columns_joined" not in [found.code for found in inspection.findings]
    (tmp_path / "b").mkdir()
    with pytest.raises(CompressionError, match="invalid_dataset: there is no column 'd'"):
        load(THREE, tmp_path / "b", "x.csv", inputs={"x": ["a", "d"]})


def test_numbers_may_become_broken_ones_late(tmp_path: Path) -> None:
    """Types are found out as the file is read: whole numbers for many blocks, then one that is not."""
    lines = [b'{"x": %d, "y": 1}' % at for at in range(9_000)] + [b'{"x": 0.5, "y": 1}'] * 2
    data, _ = load(b"\n".join(lines), tmp_path, "x.jsonl", inputs={"x": "x"})
    x = np.concatenate([split.arrays["x"] for split in data.splits.values()])
    assert sorted(x) == [0, 0.5, 0.5, *range(1, 9_000)]


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """Of 80 MB of floats."""
    with parquet.ParquetWriter(tmp_path / "upload", pa.schema({"x": pa.list_(pa.float64(), 1000)})) as writer:
        for _ in range(10):
            values = np.random.default_rng(0).standard_normal(1_000_000)
            rows = pa.FixedSizeListArray.from_arrays(values, 1000)
            writer.write_table(pa.table({"x": rows}))
    pool = pa.default_memory_pool()
    pool.release_unused()
    before = pool.max_memory()
    tracemalloc.start()
    inspection = load_dataset(tmp_path / "upload", "x.parquet", tmp_path / "out", tmp_path, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(inspection.splits.values()) == 10_000
    assert max(peak, pool.max_memory() - before) < 32 << 20


def test_names_of_classes_come_with_the_column(tmp_path: Path) -> None:
    told = b'{"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'
    table = pa.table({"x": np.arange(10.0), "label": np.arange(10) % 2})
    data = parquet_bytes(table.replace_schema_metadata({b"huggingface": told}))
    assert load(data, tmp_path, "x.parquet")[1].classes == ("no", "yes")
    (tmp_path / "b").mkdir()
    table = pa.table({"x": np.arange(10.0), "label": np.arange(10) % 3})
    data = parquet_bytes(table.replace_schema_metadata({b"huggingface": told}))
    with pytest.raises(CompressionError, match="row 3, column 'label': the label is 2"):
        load(data, tmp_path / "b", "x.parquet")


def test_many_classes_of_any_name(tmp_path: Path) -> None:
    names = [f"a/b c, ünïcode {at} =1+1" for at in range(10_000)]
    _, inspection = load(
        parquet_bytes(pa.table({"x": np.arange(20_000.0), "label": names * 2})), tmp_path, "x.parquet"
    )
    assert inspection.classes == tuple(sorted(names))
    (tmp_path / "b").mkdir()
    table = pa.table({"x": np.arange(20_001.0), "label": [str(at) for at in range(20_001)]})
    with pytest.raises(CompressionError, match="invalid_dataset: there are more than 20000 classes"):
        load(parquet_bytes(table), tmp_path / "b", "x.parquet")


def test_lists_keep_their_shape_and_images_are_decoded(tmp_path: Path) -> None:
    table = pa.table({"m": [[[1, 2], [3, 4]]] * 10, "image": [png(at) for at in range(10)]})
    data, _ = load(parquet_bytes(table), tmp_path, "x.parquet", **RAW)
    assert data.arrays["test/m"].shape == (2, 2, 2)
    assert data.arrays["test/image"].shape == (2, 3, 3, 4)


def nested(depth: int) -> Any:
    return 1 if not depth else [nested(depth - 1)]


def test_labels_of_many_lengths_are_filled_up(tmp_path: Path) -> None:
    rows = [{"x": at, "label": list(range(at % 4))} for at in range(12)]
    data, inspection = load("\n".join(map(json.dumps, rows)).encode(), tmp_path, "x.jsonl")
    assert inspection.class_counts == {}
    for split in data.splits.values():
        assert split.labels is not None
        for x, label in zip(split.arrays["x"][:, 0], split.labels, strict=True):
            assert label.tolist() == [at if at < x % 4 else -1 for at in range(3)]


LISTS = arrow_bytes(pa.table({"x": [["a", "b"]] * 10}))
OUT_OF_BOUNDS = LISTS.replace(
    struct.pack("<11i", *range(0, 22, 2)), struct.pack("<11i", *range(0, 20, 2), 1 << 30)
)
"""Lists that end a gigabyte behind the file: asking such a batch for its size ends the process."""

BAD = {
    "out of bounds": ("x.arrow", OUT_OF_BOUNDS, "Offset invariant failure"),
    "no sequence": ("x.jsonl", b'{"x": 1, "label": [1]}\n{"x": 2, "label": 1}\n', "row 2, column 'label'"),
    "gap": ("x.jsonl", b'{"x": 1, "label": [1]}\n{"x": 2, "label": [2, null]}\n', "row 2, column 'label'"),
    "missing": ("x.csv", b"x,label\n1,a\n,b\n", "row 2, column 'x'"),
    "ragged": ("x.jsonl", b'{"x": [1, 2]}\n{"x": [1]}\n', "row 2, column 'x'"),
    "below": ("x.csv", b"x,label\n1,0\n2,-1\n", "row 2, column 'label'"),
    "nested": ("x.parquet", parquet_bytes(pa.table({"x": [nested(100)]})), "nested"),
    "words": ("x.csv", b"x,label\n1,0\nhello,1\n", "column 'x'"),
    "word": ("x.csv", b"x,label\n1,0\n2,1\nhello,1\n", "row 3, column 'x': 'hello' is no number"),
    "quoted": ("x.csv", b'"x";"a,b"\n"1";"2"\n"";"3"\n', "row 2, column 'x': the value is missing"),
    "tabs": ("x.tsv", b"\xef\xbb\xbfx\tlabel\n1\t0\nNA\t1\n", "row 2, column 'x': the value is missing"),
    "no label": ("x.csv", b"x,label\n1,a\n2,\n", "row 2, column 'label': the value is missing"),
    "wide row": ("x.csv", b"x,label\n1,0\n2,1,3\n", "Row #3"),
    "latin": ("x.csv", b"x,label\n1,\xe4\n", "."),
    "not json": ("x.jsonl", b'{"x": 1}\n{"x": \n', "row 2 is no JSON"),
    "deep json": ("x.jsonl", b'{"x": ' + b"[" * 100_000 + b"\n", "row 1 is no JSON"),
    "null": ("x.jsonl", b'{"x": 1}\n{"x": null}\n', "row 2, column 'x': the value is missing"),
    "mixed": ("x.jsonl", b'{"x": 1}\n{"x": "a"}\n', "row 2, column 'x'"),
    "huge": ("x.jsonl", b'{"x": 1}\n{"x": 1' + b"0" * 30 + b"}\n", "column 'x'"),
    "surrogate": ("x.jsonl", b'{"x": 1, "label": "\\ud800"}\n', "column 'label'"),
    "long row": ("x.jsonl", b'{"x": [' + b"1," * (5 << 20) + b"1]}\n", "a row takes more"),
    "wide": ("x.jsonl", b"{" + b",".join(b'"c%d": 1' % at for at in range(5_000)) + b"}", "columns"),
    "nothing": ("x.csv", b"x,label\n", "no rows"),
    "twice": ("x.csv", b"x,x\n1,2\n", "same name"),
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


def test_a_footer_of_a_million_row_groups_is_not_read(tmp_path: Path) -> None:
    size = 100 << 20
    with (tmp_path / "upload").open("wb") as file:
        file.write(b"PAR1")
        file.truncate(size)
        file.seek(size)
        file.write(size.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(CompressionError, match=r"invalid_dataset: .*footer"):
        load_dataset(tmp_path / "upload", "x.parquet", tmp_path / "out", tmp_path, {})


def test_a_long_value_that_is_repeated_is_not_spelled_out(tmp_path: Path) -> None:
    """A value of one megabyte, 300 times, from a file that takes a three-hundredth."""
    names = pa.DictionaryArray.from_arrays(np.zeros(300, np.int32), ["a" * (1 << 20)])
    data = parquet_bytes(pa.table({"x": np.arange(300.0), "label": names}))
    with pytest.raises(CompressionError, match="limit_decoded_bytes"):
        load(data, tmp_path, "x.parquet")


def test_a_small_parquet_that_becomes_large_is_refused(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"x": np.zeros(10_000_000)}))
    with pytest.raises(CompressionError, match="limit_decoded_bytes"):
        load(data, tmp_path, "x.parquet")


def test_classes_in_the_order_of_the_model(tmp_path: Path) -> None:
    wanted = ["nein", "vielleicht", "ja"]
    data, inspection = load(FILES["x.csv"], tmp_path, "x.csv", classes=wanted)
    assert inspection.classes == tuple(wanted)
    assert all((split.arrays["x"][:, 0] % 2 * -2 + 2 == split.labels).all() for split in data.splits.values())
    for classes, why in (
        (["nein"], "'ja' is none of options.classes"),
        (["ja", "nein", "ja"], "a class twice"),
    ):
        with pytest.raises(CompressionError, match=why) as refusal:
            load(FILES["x.csv"], tmp_path, "x.csv", classes=classes)
        assert refusal.value.code == "invalid_dataset"
