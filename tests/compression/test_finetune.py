"""Fine-tuning brings back what a step lost, taught by the original, with labels or without."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compression import runtime
from compression.dataset import Dataset
from compression.model import Model
from compression.recipe import Recipe
from compression.step import apply_step
from compression.technique import Need
from compression.techniques.finetune import Finetune
from compression.training.options import Training
from tests.compression.conftest import Normalise, Pack
from tests.compression.training.problems import WIDTH, answers, dense, inputs

_TRAINING = {"epochs": 20, "batch_size": 32, "learning_rate": 0.05, "validation": 0}


def damaged(model: Model) -> onnx.ModelProto:
    """Half of its hidden layer's weights are next to nothing."""
    proto = model.copy()
    weights = np.array(model.initializer("w1"))
    weights[:, ::2] *= 1e-3
    (tensor,) = (one for one in proto.graph.initializer if one.name == "w1")
    tensor.raw_data = weights.tobytes()
    return proto


@pytest.mark.parametrize("labelled", [True, False])
def test_recovers(labelled: bool, normalise: Normalise, pack: Pack, tmp_path: Path) -> None:
    original = normalise(dense(4).proto)
    broken = normalise(damaged(Model.open(original)))
    x, unseen = inputs(640, WIDTH), inputs(200, WIDTH, seed=5)
    arrays = {"train/x": x, "calibration/x": x[:40], "test/x": unseen}
    if labelled:
        arrays |= {
            f"{split}/label": answers(arrays[f"{split}/x"], 4).argmax(-1)
            for split in ("train", "calibration", "test")
        }
    data, into = pack(arrays), tmp_path / "into.onnx"
    result = apply_step(
        {"technique": "finetune", "training": _TRAINING},
        broken,
        data,
        into,
        seed=0,
        scratch=tmp_path,
        original=original,
    )
    wanted, lost, recovered = (
        runtime.run(runtime.session(path), {"x": unseen})["y"] for path in (original, broken, into)
    )
    error = [np.square(outputs - wanted).sum() / np.square(wanted).sum() for outputs in (lost, recovered)]
    assert error[1] < 0.3 * error[0]
    kinds = "classification and distillation" if labelled else "distillation"
    assert result.details["objective"] == kinds
    assert result.details["steps"] == 20 * 20


def test_a_finetuned_model_keeps_its_nodes(normalise: Normalise, pack: Pack, tmp_path: Path) -> None:
    path, into = normalise(dense(4, "Softmax", axis=-1).proto), tmp_path / "into.onnx"
    data = pack({"calibration/x": inputs(40, WIDTH), "test/x": inputs(40, WIDTH)})
    apply_step({"technique": "finetune"}, path, data, into, seed=0, scratch=tmp_path)
    before, after = Model.open(path), Model.open(into)
    assert [node.name for node in after.proto.graph.node] == [node.name for node in before.proto.graph.node]
    assert after.initializers.keys() == before.initializers.keys()


def test_labels_are_needed_by_the_loss_that_is_of_them(normalise: Normalise, pack: Pack) -> None:
    by_labels = Finetune(training=Training(loss="labels"))
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}
    assert Finetune().required() == {Need.CALIBRATION}
    model = Model.open(normalise(dense(4).proto)).inspect()
    data = Dataset.open(pack({"calibration/x": inputs(40, WIDTH), "test/x": inputs(40, WIDTH)})).inspection
    assert Recipe(steps=(Finetune(),)).check(model, data) == []
    (error,) = Recipe(steps=(by_labels,)).check(model, data)
    assert error.pointer == "/recipe/steps/0"
    assert "labels" in error.detail


def test_a_quantized_model_is_refused(normalise: Normalise) -> None:
    steps = [{"technique": "static_quantization"}, {"technique": "finetune"}]
    model = Model.open(normalise(dense(4).proto)).inspect()
    errors = Recipe.model_validate({"steps": steps}).check(model, None)
    assert any("fine-tune before that" in error.detail for error in errors)


def test_zeros_stay_zeros(normalise: Normalise, pack: Pack, tmp_path: Path) -> None:
    proto = dense(4).proto
    (tensor,) = (one for one in proto.graph.initializer if one.name == "w1")
    weights = np.array(onnx.numpy_helper.to_array(tensor))
    weights[::2] = 0
    tensor.raw_data = weights.tobytes()
    before, into = normalise(proto), tmp_path / "into.onnx"
    data = pack({f"{split}/x": inputs(200, WIDTH) for split in ("train", "calibration", "test")})
    step = {"technique": "finetune", "training": {**_TRAINING, "epochs": 1, "average": 0.9}}
    apply_step(step, before, data, into, seed=0, scratch=tmp_path, original=normalise(dense(4).proto))
    after = Model.open(into).initializer("w1")
    assert not after[::2].any()
    assert not np.array_equal(after[1::2], weights[1::2])
