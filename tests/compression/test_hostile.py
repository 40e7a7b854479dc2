"""Every hostile file is refused with its code, where it should be; whatever passes can be
normalised again.
"""

import time
from pathlib import Path

import pytest

from compression.errors import CompressionError
from compression.formats import load_dataset, load_model
from compression.formats.sniff import check_head
from tests.compression import hostile

REFUSED = {name: case for name, case in hostile.CASES.items() if case.stage in {"sniff", "load"}}
ACCEPTED = {
    name: case for name, case in hostile.CASES.items() if case.stage in {"run", "ok"} and case.row != 42
}


def load(case: hostile.Case, folder: Path) -> None:
    path, scratch = folder / "upload", folder / "scratch"
    path.write_bytes(case.make())
    scratch.mkdir()
    check_head(path.read_bytes()[:4096], case.filename, case.purpose)
    loader = load_model if case.purpose == "model" else load_dataset
    loader(path, case.filename, folder / "normalised", scratch)


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_its_code(name: str, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as refusal:
        load(REFUSED[name], tmp_path)
    assert refusal.value.code in REFUSED[name].codes
    assert str(tmp_path) not in refusal.value.detail
    assert not Path("/tmp/pare-pwned").exists()  # noqa: S108


@pytest.mark.parametrize("name", [name for name, case in hostile.CASES.items() if case.stage == "sniff"])
def test_first_bytes_are_enough(name: str) -> None:
    case = hostile.CASES[name]
    with pytest.raises(CompressionError) as refusal:
        check_head(case.make()[:4096], case.filename, case.purpose)
    assert refusal.value.code in case.codes


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_accepted_and_normal(name: str, tmp_path: Path) -> None:
    load(ACCEPTED[name], tmp_path)
    normalised = tmp_path / "normalised"
    (tmp_path / "again").mkdir()
    load_model(normalised, "model.onnx", tmp_path / "twice", tmp_path / "again")
    assert (tmp_path / "twice").read_bytes() == normalised.read_bytes()


@pytest.mark.parametrize("name", ["billion_laughs", "if_nest_5000", "deep_types", "empty_messages"])
def test_refusal_is_quick(name: str, tmp_path: Path) -> None:
    case = hostile.CASES[name]
    (tmp_path / "upload").write_bytes(case.make())
    start = time.perf_counter()
    with pytest.raises(CompressionError):
        load_model(tmp_path / "upload", case.filename, tmp_path / "normalised", tmp_path)
    assert time.perf_counter() - start < 1
