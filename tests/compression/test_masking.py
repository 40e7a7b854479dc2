"""Masks that hold while a network is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compression.errors import CompressionError
from compression.model import Model
from compression.sparsity.masking import Masking
from compression.training import loop
from tests.compression.networks import cnn
from tests.compression.test_magnitude_pruning import QUICK, dense, images, outputs, prune, sparsities


def test_decay_with_training_beats_pruning_at_once(tmp_path: Path) -> None:
    before, data = dense(), images()
    schedule = {"kind": "polynomial_decay", "initial_sparsity": 0.5}
    training = QUICK | {"epochs": 12, "learning_rate": 0.1}
    trained = prune(before, tmp_path, data, sparsity=0.8, schedule=schedule, training=training)
    at_once = prune(before, tmp_path, sparsity=0.8)
    assert trained.details["objective"] == "distillation"
    assert trained.details["steps"] == 120
    truth = outputs(before, data)
    errors = [float(np.abs(outputs(made.model, data) - truth).mean()) for made in (trained, at_once)]
    assert errors[0] < 0.7 * errors[1]
    for name, share in sparsities(trained.model).items():
        assert share == round(0.8 * before.initializer(name).size) / before.initializer(name).size


@pytest.mark.parametrize(
    "training",
    [
        {"average": 0.9},
        {"optimizer": "adamw", "learning_rate": 1e-3},
        {"precision": "bfloat16"},
        {"epochs": 0.1},
    ],
)
@pytest.mark.parametrize("pattern", ["unstructured", "n_m", "block"])
def test_zeros_hold_through_any_training(training: Mapping[str, Any], pattern: str, tmp_path: Path) -> None:
    """A moving average and momentum move what is zero; folding of BatchNormalization makes -0.0."""
    model = Model(cnn(channels=8))
    settings = QUICK | {"epochs": 2} | training
    made = prune(model, tmp_path, images(12), scope="global", pattern={"kind": pattern}, training=settings)
    twice = prune(made.model, tmp_path, scope="global", pattern={"kind": pattern})
    assert twice.model.sha256 == made.model.sha256, "there was nothing left to prune"
    weight = made.model.initializer("pointwise.weight")
    assert not np.signbit(weight[weight == 0]).any()
    assert not np.array_equal(weight[weight != 0], model.initializer("pointwise.weight")[weight != 0])


def test_a_schedule_that_ends_with_the_training_reaches_its_target(tmp_path: Path) -> None:
    schedule = {"kind": "polynomial_decay", "end_step": 40, "frequency": 7}
    made = prune(dense(), tmp_path, images(), sparsity=0.9, schedule=schedule, training=QUICK)
    assert made.details["steps"] == 40
    assert made.details["sparsity"] == pytest.approx(0.9, abs=1e-3)


def test_a_schedule_longer_than_the_training_says_so(tmp_path: Path) -> None:
    schedule = {"kind": "polynomial_decay", "end_step": 41}
    with pytest.raises(CompressionError) as caught:
        prune(dense(), tmp_path, images(), schedule=schedule, training=QUICK)
    assert caught.value.code == "schedule_too_long"
    assert caught.value.detail == "the schedule ends at step 41, and the training has 40 steps"
    assert [error.pointer for error in caught.value.errors] == ["/schedule/end_step"]
    assert caught.value.suggestions[0].patch == {"schedule": {"end_step": None}}


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two changes of the masks, and again after the last."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    step = {"schedule": {"kind": "polynomial_decay", "frequency": 6}, "training": QUICK}
    whole = prune(dense(), tmp_path, images(), **step)
    held = Masking.after_step
    for killed in (9, 33):
        left = tmp_path / f"{killed}.safetensors"

        def kill(self: Masking, step: int, steps: int, killed: int = killed) -> None:
            if step == killed:
                raise KeyboardInterrupt
            held(self, step, steps)

        monkeypatch.setattr(Masking, "after_step", kill)
        with pytest.raises(KeyboardInterrupt):
            prune(dense(), tmp_path, images(), checkpoint=left, **step)
        monkeypatch.setattr(Masking, "after_step", held)
        resumed = prune(dense(), tmp_path, images(), checkpoint=left, resume=left, **step)
        assert resumed.model.serialized == whole.model.serialized
