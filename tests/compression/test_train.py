"""Training by labels, from the weights there are or from random ones."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from compression import runtime
from compression.model import Model
from compression.step import apply_step
from compression.technique import Need
from compression.techniques.train import Train, TrainingByLabels
from tests.compression.conftest import Normalise, Pack
from tests.compression.training.problems import WIDTH, answers, dense, inputs


@pytest.fixture
def data(pack: Pack) -> Path:
    arrays = {"train/x": inputs(640, WIDTH), "calibration/x": inputs(40, WIDTH), "test/x": inputs(200, WIDTH)}
    labels = {f"{name[:-1]}label": answers(values, 4).argmax(-1) for name, values in arrays.items()}
    return pack({**arrays, **labels})


def trained(model: Path, data: Path, folder: Path, seed: int = 0, **options: object) -> Model:
    step = {"technique": "train", "training": {"batch_size": 32, "validation": 0}, **options}
    apply_step(step, model, data, folder / "into.onnx", seed=seed, scratch=folder)
    return Model.open(folder / "into.onnx")


def accuracy(model: Model) -> float:
    unseen = inputs(400, WIDTH, seed=7)
    outputs = runtime.run(runtime.session(model.proto), {"x": unseen})["y"]
    return float((outputs.argmax(-1) == answers(unseen, 4).argmax(-1)).mean())


@pytest.mark.parametrize("from_scratch", [True, False])
def test_learns_the_labels(from_scratch: bool, normalise: Normalise, data: Path, tmp_path: Path) -> None:
    model = normalise(dense(4).proto)
    assert accuracy(Model.open(model)) < 0.5
    assert accuracy(trained(model, data, tmp_path, from_scratch=from_scratch)) > 0.9


def test_from_scratch_forgets_the_weights(normalise: Normalise, data: Path, tmp_path: Path) -> None:
    """Two files of one network with other weights end the same; not so if they are where it starts."""
    one = normalise(dense(4).proto)
    moved = dense(4).proto
    for tensor in moved.graph.initializer:
        values = np.frombuffer(tensor.raw_data, np.float32)
        tensor.raw_data = (values * np.float32(0.5)).tobytes()
    other = normalise(moved)
    for scratch in (True, False):
        ends = [trained(path, data, tmp_path, from_scratch=scratch).serialized for path in (one, other)]
        assert (ends[0] == ends[1]) == scratch


def test_each_seed_starts_elsewhere(normalise: Normalise, data: Path, tmp_path: Path) -> None:
    model = normalise(dense(4).proto)
    starts = [
        trained(model, data, tmp_path, seed, from_scratch=True, training={"epochs": 0}).initializer("w1")
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_is_by_labels_alone() -> None:
    assert Train().required() == {Need.CALIBRATION, Need.LABELS}
    with pytest.raises(ValidationError):
        Train.model_validate({"technique": "train", "training": {"loss": "distillation"}})


def test_defaults_hold_where_only_some_are_given() -> None:
    step = Train.model_validate({"technique": "train", "training": {"epochs": 2}})
    assert step.training == TrainingByLabels(epochs=2)
    assert (step.training.peak_rate, step.training.weight_decay) == (0.05, 5e-4)
    assert TrainingByLabels(optimizer="adamw").peak_rate == 0.001
    assert TrainingByLabels(learning_rate=0.3).peak_rate == 0.3
