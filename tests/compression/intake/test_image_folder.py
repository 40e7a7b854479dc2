"""Images in archives: classes, labels files, broken ones, and those that mean harm."""

import gzip
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from PIL import Image

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from tests.compression import hostile

RAW = {"image": {"dtype": "uint8"}}


def png(value: int, size: tuple[int, int] = (4, 3), **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255)).save(buffer, more.pop("format", "PNG"), **more)
    return buffer.getvalue()


def load(data: bytes, folder: Path, name: str = "x.zip", **options: Any) -> tuple[Dataset, DatasetInspection]:
    (folder / "upload").write_bytes(data)
    inspection = load_dataset(folder / "upload", name, folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


def members() -> dict[str, bytes]:
    return {f"data/{name}/{at}.png": png(at) for name in ("übel", "a/b") for at in range(20)}


def tar(kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members().items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}[kind]
    return pack(buffer.getvalue())


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.zst"])
def test_directories_are_classes(kind: str, tmp_path: Path) -> None:
    packed = hostile.packed(members()) if kind == "zip" else tar(kind)
    data, inspection = load(packed, tmp_path, f"x.{kind}", **RAW)
    assert inspection.classes == ("a/b", "übel")
    assert inspection.splits == {"train": 24, "calibration": 8, "test": 8}
    assert inspection.class_counts == {"train": (12, 12), "calibration": (4, 4), "test": (4, 4)}
    assert data.arrays["test/image"].shape == (8, 3, 3, 4)
    assert set(data.arrays["train/image"][:, 2].ravel()) == {255}


def test_pixels_are_scaled_and_ordered_as_told(tmp_path: Path) -> None:
    image = {"colour": "BGR", "mean": [0.5], "std": [0.5], "layout": "NHWC", "resize": [5, 6], "crop": [2, 2]}
    data, inspection = load(hostile.packed(members()), tmp_path, image=image)
    assert data.arrays["test/image"].shape == (8, 2, 2, 3)
    assert np.allclose(data.arrays["test/image"][0, 0, 0, :2], [1, -1])
    assert inspection.preprocessing is not None
    assert inspection.preprocessing.image.colour == "BGR"


def many(broken: range) -> bytes:
    """More than are decoded at once by one thread."""
    images = {f"{at % 3}/{at:03}.png": png(at % 256) for at in range(400)}
    return hostile.packed(images | {f"{at % 3}/{at:03}.png": b"\x89PNG" for at in broken})


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for count in (1, threads):
        folder = tmp_path / str(count)
        folder.mkdir()
        monkeypatch.setattr("os.sched_getaffinity", lambda _, count=count: range(count))
        _, inspection = load(many(range(70, 73)), folder, **RAW)
        found.append(((folder / "out").read_bytes(), inspection))
    assert found[0] == found[1]
    assert found[0][1].skipped.count == 3


def test_the_first_of_too_many_broken_ones_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"images_broken: more than 4 .* '0/072\.png' first"):
        load(many(range(70, 400)), tmp_path, **RAW)


def test_a_broken_image_is_skipped_counted_and_named(tmp_path: Path) -> None:
    images = members() | {"data/a/b/7.png": b"\x89PNG and no more"}
    _, inspection = load(hostile.packed(images), tmp_path)
    assert inspection.skipped.count == 1
    assert inspection.skipped.first[0].name == "data/a/b/7.png"
    assert sum(inspection.splits.values()) == 39
    (tmp_path / "b").mkdir()
    with pytest.raises(CompressionError, match="images_broken"):
        load(hostile.packed(images), tmp_path / "b", max_broken=0)


def test_a_labels_file_names_rows_and_splits(tmp_path: Path) -> None:
    rows = "".join(f"{at}.png;=c{at % 2};{'train' if at < 8 else 'test'}\n" for at in range(10))
    images = {f"{at}.png": png(at) for at in range(10)}
    packed = hostile.packed(images | {"labels.csv": b"\xef\xbb\xbffile;label;part\n" + rows.encode()})
    data, inspection = load(packed, tmp_path, splits="part", **RAW)
    assert inspection.classes == ("=c0", "=c1")
    assert data.arrays["test/image"][:, 0, 0, 0].tolist() == [8, 9]
    assert data.arrays["test/label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "wanted", "classes"),
    [
        ([str(at) for at in range(12)], list(range(12)), ()),
        ([at / 4 for at in range(12)], [at / 4 for at in range(12)], ()),
        (["1", "a"] * 6, [0, 1] * 6, ("1", "a")),
    ],
)
def test_numbers_in_a_labels_file_are_numbers(
    labels: list[Any], wanted: list[float], classes: tuple[str, ...], tmp_path: Path
) -> None:
    """Sorted as names, class 10 would come before class 2."""
    rows = [json.dumps({"file": f"{at}.png", "label": label}) for at, label in enumerate(labels)]
    images = {f"{at}.png": png(at) for at in range(12)}
    data, inspection = load(
        hostile.packed(images | {"labels.jsonl": "\n".join(rows).encode()}), tmp_path, **RAW
    )
    found = {
        int(image[0, 0, 0]): label
        for split in data.splits.values()
        for image, label in zip(split.arrays["image"], split.labels, strict=True)
    }
    assert [found[at] for at in range(12)] == wanted
    assert inspection.classes == classes


def test_metadata_of_images_need_not_hold_labels(tmp_path: Path) -> None:
    """As `datasets` reads image folders: rows name their files, beside them."""
    images = {f"train/{at}.png": png(at) for at in range(10)}
    rows = [{"file_name": f"{at}.png", "caption": "a picture"} for at in range(10)]
    table = "\n".join(map(json.dumps, rows)).encode()
    data, inspection = load(hostile.packed(images | {"train/metadata.jsonl": table}), tmp_path, **RAW)
    assert not inspection.labelled
    assert data.arrays["test/image"].shape == (2, 3, 3, 4)
    half = table.replace(b'"caption"', b'"label"', 5)
    (tmp_path / "b").mkdir()
    with pytest.raises(CompressionError, match="gives labels to some images"):
        load(hostile.packed(images | {"train/metadata.jsonl": half}), tmp_path / "b")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (b"file,label\n0.png,\n", "row 1, column 'label'"),
        (b"file,label\n0.png,a\n9.png,b\n", "row 2, column 'file'"),
        (b"file,label\n0.png,-1\n", "row 1, column 'label': the label is below 0"),
        (b"c," * 1_000_000 + b"label\n", "columns"),
    ],
)
def test_a_bad_labels_file_is_named_by_row_and_column(table: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=f"invalid_dataset: .*{why}"):
        load(hostile.packed({"0.png": png(0), "labels.csv": table}), tmp_path)


def test_a_damaged_labels_file_is_named(tmp_path: Path) -> None:
    table = b"file,label\n" + b"".join(b"0.png,%d\n" % at for at in range(500))
    data = bytearray(hostile.packed({"0.png": png(0), "labels.csv": table}))
    at = data.index(b"labels.csv") + 100
    data[at : at + 20] = bytes(20)
    with pytest.raises(CompressionError, match="invalid_archive"):
        load(bytes(data), tmp_path)


def claimed(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def large_jpeg() -> bytes:
    """Says that it is 65,535 pixels high and wide."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff" * 4
    return bytes(data)


FRAMES = [Image.new("RGB", (4, 4), (at, 0, 0)) for at in range(1, 4)]
HOSTILE = {
    "169 Mpx": ("image_pixels", {"a/0.png": claimed(13_000, 13_000)}),
    "100 Mpx": ("image_pixels", {"a/0.png": claimed(10_000, 10_000)}),
    "400 Mpx": ("image_pixels", {"a/0.png": claimed(20_000, 20_000)}),
    "jpeg": ("image_pixels", {"a/0.jpg": large_jpeg()}),
    "65535": ("image_pixels", {"a/0.png": claimed(65_535, 65_535)}),
    "apng": ("image_pixels", {"a/0.png": png(0, save_all=True, append_images=FRAMES)}),
    "gif": ("image_pixels", {"a/0.gif": png(0, format="GIF", save_all=True, append_images=FRAMES)}),
    "pickle": ("member_refused", {"a/0.png": png(0), "a/b.pkl": hostile.PICKLE}),
    "nested": ("member_refused", {"a/0.png": png(0), "a/b.zip": b""}),
    "parent": ("path_refused", {"a/0.png": png(0), "../b.png": png(0)}),
    "bomb": ("archive_ratio", {"a/0.png": png(0), "a/b.png": bytes(100 << 20)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_harm_is_refused_with_its_code(name: str, tmp_path: Path) -> None:
    code, images = HOSTILE[name]
    with pytest.raises(CompressionError) as refusal:
        load(hostile.packed(images), tmp_path)
    assert refusal.value.code == code
    assert str(tmp_path) not in refusal.value.detail


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/1.png")
    info.type, info.linkname = kind, "a/0.png"
    packed = hostile.tarred((tarfile.TarInfo("a/0.png"), png(0)), (info, b""))
    with pytest.raises(CompressionError, match=r"link_refused|member_refused"):
        load(packed, tmp_path, "x.tar")


def test_endless_zeros_end_at_the_limit(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/0.png")
    info.size = 200 << 20
    with pytest.raises(CompressionError, match="archive_ratio"):
        load(gzip.compress(info.tobuf() + bytes(info.size), 1), tmp_path, "x.tar.gz")
    assert (tmp_path / "members").stat().st_size <= 100 << 20


def test_classes_in_the_order_of_the_model(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    _, sorted_by_name = load(hostile.packed(members()), tmp_path / "one")
    _, given = load(hostile.packed(members()), tmp_path / "two", classes=["übel", "a/b"])
    assert sorted_by_name.classes[::-1] == given.classes == ("übel", "a/b")
