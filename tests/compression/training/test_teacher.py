"""The teacher gives the same, remembered or run anew, and runs each sample once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from compression import runtime
from compression.dataset import Split
from compression.model import Model
from compression.technique import quiet
from compression.training import teacher
from compression.training.batches import Batches
from compression.training.options import Augmentation, Training
from compression.training.teacher import Teacher
from compression.training.tuning import fine_tune
from tests.compression.networks import Builder
from tests.compression.training.problems import I64, WIDTH, F, context, dense, inputs


def steps_first(batch: int | str = "batch") -> Model:
    """[N, 5, WIDTH] -> scores [5, N, WIDTH], and the samples' largest numbers' places as integers."""
    b = Builder()
    b.node("Transpose", ["x"], "y", perm=[1, 0, 2])
    b.node("ArgMax", ["x"], "place", axis=-1, keepdims=0)
    value = helper.make_tensor_value_info
    outputs = [value("y", F, [5, batch, WIDTH]), value("place", I64, [batch, 5])]
    return Model(b.model([value("x", F, [batch, 5, WIDTH])], outputs))


@pytest.mark.parametrize("batch", ["batch", 4])
def test_remembered_is_live(batch: int | str, tmp_path: Path) -> None:
    model, split = steps_first(batch), Split({"x": inputs(300, 5, WIDTH)}, None)
    live, kept = Teacher(model, split, 1), Teacher(model, split, 1)
    kept.remember(tmp_path, quiet)
    batches = Batches(split=split, inputs=model.inputs, indices=np.arange(300), size=140, seed=0)
    rows = batches.of_step(1)
    one, other = (which(rows.indices, rows.inputs) for which in (live, kept))
    assert set(one) == set(other) == {"y"}
    assert torch.equal(one["y"], rows.inputs["x"].transpose(0, 1))
    assert torch.equal(other["y"], one["y"])


def test_no_epoch_runs_it_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, model = Split({"x": inputs(96, WIDTH)}, None), dense(4)
    asked: list[int] = []
    run = runtime.run

    def counted(*given: object) -> object:
        asked.append(len(given[1]["x"]))  # type: ignore[index]
        return run(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime, "run", counted)
    looked = 2 * 61
    """What the outputs are is told from the first samples."""
    live = 29 + 3 * (87 + 9)
    """A batch to try the precision on; three epochs of whole batches and of the held-out samples."""
    for augmentation, runs in ((Augmentation(), 96), (Augmentation(shift=1), live)):
        asked.clear()
        training = Training(augmentation=augmentation, batch_size=29)
        fine_tune(model, training, context(tmp_path, split))
        assert sum(asked) == looked + runs


def test_another_training_of_the_step_does_not_run_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Split({"x": inputs(96, WIDTH)}, None)
    Teacher(dense(4), split, 1).remember(tmp_path, quiet)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "run", pytest.fail)
        again = Teacher(dense(4), split, 1)
        again.remember(tmp_path, quiet)
        found = again(np.array([3, 5]), {})["y"]
    assert torch.equal(
        found,
        Teacher(dense(4), split, 1)(np.array([3, 5]), {"x": torch.tensor(split.arrays["x"])})["y"][[3, 5]],
    )
    other = Teacher(dense(4, "Softmax", axis=-1), split, 1)
    other.remember(tmp_path, quiet)
    assert torch.allclose(other(np.array([3, 5]), {})["y"], found.softmax(-1), atol=1e-6)


def test_what_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_LARGEST", 100)
    split = Split({"x": inputs(40, WIDTH)}, None)
    shy = Teacher(dense(4), split, 1)
    shy.remember(tmp_path, quiet)
    assert not list(tmp_path.rglob("*.npy"))
    rows = np.arange(3, 9)
    assert shy(rows, {"x": torch.tensor(split.arrays["x"][rows])})["y"].shape == (6, 4)


def test_it_is_the_original_that_teaches(tmp_path: Path) -> None:
    """And not the model of the step, if the job has an original."""
    split, model = Split({"x": inputs(320, WIDTH)}, None), dense(4)
    other = dense(4)
    for tensor in other.proto.graph.initializer:
        tensor.raw_data = (-np.frombuffer(tensor.raw_data, np.float32)).tobytes()
    training = Training(epochs=2, learning_rate=0.1, batch_size=32)
    itself, _ = fine_tune(model, training, context(tmp_path, split))
    taught, _ = fine_tune(model, training, context(tmp_path, split, original=other))
    moved = [np.abs(one.initializer("w2") - model.initializer("w2")).max() for one in (itself, taught)]
    assert moved[0] < 1e-2 < moved[1]
