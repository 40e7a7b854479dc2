"""Single files that gzip or Zstandard packed."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from compression.errors import CompressionError
from compression.validation.limits import MAX_DATASET_RATIO, RATIO_FROM
from tests.compression import hostile
from tests.compression.intake.test_table import FILES, load

Pack = Callable[[bytes], bytes]
PACK: dict[str, Pack] = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
    "GZ": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),  # several streams are one
}


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_a_packed_table_is_the_table(name: str, ending: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    _, expected = load(FILES[name], plain, name)
    _, inspection = load(PACK[ending](FILES[name]), packed, f"{name}.{ending}")
    assert inspection == expected
    assert (packed / "out").read_bytes() == (plain / "out").read_bytes()


def test_a_packed_array_is_the_array(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(20.0))
    data, _ = load(gzip.compress(buffer.getvalue()), tmp_path, "x.npy.gz")
    assert len(data.arrays["test/input"]) == 4


def test_an_error_in_a_packed_table_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"invalid_dataset: row 2, column 'x': the value is missing"):
        load(gzip.compress(b'x\n1\n""\n'), tmp_path, "x.csv.gz")


def _tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("train.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_packed_tar_is_still_an_archive_whatever_its_name(tmp_path: Path) -> None:
    _, inspection = load(gzip.compress(_tar(FILES["x.csv"])), tmp_path, "x.gz")
    assert inspection.format == "table_tar_gz"


BAD = {
    "cut off": (gzip.compress(FILES["x.csv"])[:-12], "x.csv.gz", "invalid_archive"),
    "checksum": (gzip.compress(FILES["x.csv"])[:-8] + bytes(8), "x.csv.gz", "invalid_archive"),
    "zip inside": (gzip.compress(hostile.packed({"x.csv": b"x\n1\n"})), "x.zip.gz", "member_refused"),
    "twice": (gzip.compress(gzip.compress(b"x\n1\n")), "x.csv.gz.gz", "member_refused"),
    "a pickle": (gzip.compress(hostile.PICKLE), "x.gz", "format_refused"),
    "no name": (gzip.compress(b"x\n1\n"), "x.gz", "format_refused"),
    "another name": (gzip.compress(FILES["x.parquet"]), "x.csv.gz", "format_mismatch"),
    "empty": (gzip.compress(b""), "x.csv.gz", "empty_file"),
    "bomb": (gzip.compress(bytes(RATIO_FROM + 1)), "x.csv.gz", "archive_ratio"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_has_a_name(name: str, tmp_path: Path) -> None:
    assert MAX_DATASET_RATIO < 1000  # the bomb is one
    data, filename, code = BAD[name]
    with pytest.raises(CompressionError) as refusal:
        load(data, tmp_path, filename)
    assert refusal.value.code == code
