from pathlib import Path

import pytest
import torch

from compression.training.checkpoint import Checkpoint


def test_what_was_written_is_read(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    tensors = {"value/a name.with: signs/": image, "count": torch.tensor(3), "none": torch.zeros(0)}
    Checkpoint("stage", {"cut": [1, 2]}, {"step": 7, "best": [0.5, 1]}, tensors).write(tmp_path / "c")
    found = Checkpoint.open(tmp_path / "c")
    assert found is not None
    assert (found.stage, found.notes) == ("stage", {"cut": [1, 2]})
    assert found.progress == {"step": 7, "best": [0.5, 1]}
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items())


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "c"
    Checkpoint("old", {}, {}, {"a": torch.zeros(1)}).write(path)
    with pytest.raises(TypeError):
        Checkpoint("new", {"bad": object()}, {}, {"a": torch.ones(1)}).write(path)
    found = Checkpoint.open(path)
    assert found is not None
    assert found.stage == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("keep", [0, 1, 7, 200, -1])
def test_a_torn_file_is_none(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "c"
    Checkpoint("stage", {}, {}, {"a": torch.rand(100)}).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert Checkpoint.open(path) is None


def test_no_file_is_none(tmp_path: Path) -> None:
    assert Checkpoint.open(None) is None
    assert Checkpoint.open(tmp_path / "c") is None
    (tmp_path / "d").write_bytes(b"{}" * 100)
    assert Checkpoint.open(tmp_path / "d") is None
