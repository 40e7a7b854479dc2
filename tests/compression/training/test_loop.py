"""The loop: resumed is undisturbed, and each option does what it says."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.dataset import Split
from compression.engine import Engine, Role
from compression.model import Model
from compression.training import loop
from compression.training.checkpoint import Checkpoint
from compression.training.extension import Stage
from compression.training.objective import Objective
from compression.training.options import Augmentation, Training
from compression.training.schedule import rate
from compression.training.state import State
from compression.training.tuning import fine_tune
from tests.compression.networks import cnn
from tests.compression.training.problems import (
    STEPS,
    WIDTH,
    At,
    KilledError,
    Told,
    answers,
    context,
    convolutional,
    dense,
    inputs,
    problem,
)


def pictures() -> tuple[Model, Split]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (96, 1, 12, 12), np.uint8)
    return Model(cnn(channels=8)), Split({"image": images}, random.integers(0, 10, 96))


_EVERYTHING = Training(
    epochs=3,
    batch_size=16,
    learning_rate=1e-3,
    average=0.9,
    patience=5,
    batchnorm="train",
    augmentation=Augmentation(horizontal_flip=True, shift=2),
)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("killed", [0, 4, 11, 14])
def test_resumed_is_undisturbed(
    optimizer: str, killed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte: averages, momentum, statistics, augmentation, held-out samples and extensions."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    model, split = pictures()
    training = _EVERYTHING.model_copy(update={"optimizer": optimizer})

    def run(act: Callable[[], None], **more: Path) -> tuple[Model, Mapping[str, object], At]:
        extension = At(killed, act)
        done = fine_tune(model, training, context(tmp_path, split, **more), extensions=lambda _: [extension])
        return *done, extension

    whole, details, extension = run(lambda: None)
    assert details["steps"] == 15
    left = tmp_path / "left.safetensors"

    def kill() -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run(kill, checkpoint=left)
    saved = Checkpoint.open(left)
    assert saved is not None
    assert saved.progress["step"] == killed
    resumed, again, revived = run(lambda: None, resume=left, checkpoint=tmp_path / "other")
    assert resumed.serialized == whole.serialized
    assert again["history"] == details["history"]
    assert revived.seen == extension.seen == 1015


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    model, split = pictures()
    runs = [
        fine_tune(model, _EVERYTHING, context(tmp_path, split, seed=seed))[0].serialized for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_no_global_state_is_left_behind(tmp_path: Path) -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fine_tune(dense(4), STEPS, context(tmp_path, problem(), threads=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_a_checkpoint_of_another_stage_is_not_taken(tmp_path: Path) -> None:
    left, split = tmp_path / "left", problem()
    fine_tune(dense(4), STEPS, context(tmp_path, split, checkpoint=left), stage=Stage("first", {"cut": [3]}))
    saved = Checkpoint.open(left)
    assert saved is not None
    assert (saved.stage, saved.notes) == ("first", {"cut": [3]})
    told = Told()
    _, details = fine_tune(
        dense(4), STEPS, context(tmp_path, split, resume=left, report=told), stage=Stage("second")
    )
    assert len(details["history"]) == 3


def test_zero_epochs_change_nothing(tmp_path: Path) -> None:
    trained, details = fine_tune(
        dense(4), Training(epochs=0), context(tmp_path, problem(), checkpoint=tmp_path / "left")
    )
    assert trained.serialized == dense(4).serialized
    assert details["steps"] == 0
    assert not (tmp_path / "left").exists()


def fitted(training: Training, split: Split, folder: Path, model: Model | None = None, **more: object):  # noqa: ANN201
    """The engine afterwards, the details, and each step's weights."""
    model = model or dense(4)
    where = context(folder, split, **more)
    engine = Engine.from_model(model)
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(At):
        def after_step(self, step: int, steps: int) -> None:
            super().after_step(step, steps)
            seen.append({name: value.detach().clone() for name, value in engine.values().items()})

    objective = Objective.of(model, split, training, where)
    details = loop.fit(
        engine, objective, split, training, where, extensions=[Watch(-1, lambda: None)]
    ).details
    return engine, details, seen


def test_the_average_is_the_result(tmp_path: Path) -> None:
    engine, _, seen = fitted(STEPS.model_copy(update={"average": 0.8}), problem(), tmp_path)
    expected = seen[0]["w1"].double()
    for update, values in enumerate(seen[1:], start=2):
        decay = min(0.8, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * values["w1"].double()
    assert torch.allclose(engine.values()["w1"].double(), expected, atol=1e-6)
    assert not torch.allclose(seen[-1]["w1"].double(), expected, atol=1e-5)


def test_statistics_are_averaged_too(tmp_path: Path) -> None:
    model, split = pictures()
    training = _EVERYTHING.model_copy(update={"patience": None, "validation": 0})
    engine, _, seen = fitted(training, split, tmp_path, model)
    (name,) = (n for n, role in engine.roles.items() if role is Role.STATISTIC and n == "stem.mean")
    assert not torch.equal(engine.values()[name], seen[-1][name])
    assert not torch.equal(seen[-1][name], seen[0][name])


def test_stops_early_and_takes_the_best(tmp_path: Path) -> None:
    """Few samples with labels by chance: soon the held-out loss only rises."""
    random = np.random.default_rng(0)
    split = Split({"x": inputs(60, WIDTH)}, random.integers(0, 4, 60))
    training = Training(
        epochs=200,
        batch_size=16,
        optimizer="adamw",
        learning_rate=0.02,
        schedule="constant",
        patience=4,
        loss="labels",
    )
    engine, details, seen = fitted(training, split, tmp_path)
    history = [record["validation_loss"] for record in details["history"]]
    assert details["stopped_early"]
    best = int(np.argmin(history))
    assert len(history) == best + 5
    assert torch.equal(engine.values()["w2"], seen[3 * (best + 1) - 1]["w2"])


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """One step of plain SGD moves by the rate times the clipped norm."""
    training = Training(
        epochs=0.2, batch_size=32, momentum=0, weight_decay=0, warmup=0, gradient_clip=0.01, learning_rate=0.5
    ).model_copy(update={"loss": "labels", "validation": 0})
    before = dict(Engine.from_model(dense(4)).values())
    engine, details, _ = fitted(training, problem(), tmp_path)
    assert details["steps"] == 1
    moved = math.sqrt(
        sum(
            float((value - before[name]).detach().square().sum())
            for name, value in engine.parameters_by_role()
        )
    )
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_weights_decay_and_vectors_do_not() -> None:
    training = Training(learning_rate=0.5, momentum=0, weight_decay=0.1)
    engine = Engine.from_model(dense(4))
    state = State(engine, training, [], {})
    before = {name: value.detach().clone() for name, value in engine.parameters_by_role()}
    for _, value in engine.parameters_by_role():
        value.grad = torch.zeros_like(value)
    state.update(0.5)
    for name, value in engine.parameters_by_role():
        factor = 0.95 if value.dim() > 1 else 1.0
        assert torch.allclose(value, before[name] * factor)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_unit_of_an_input_does_not_matter(optimizer: str) -> None:
    """The first layer of raw pixels moves as it would on pixels of magnitude 1."""
    moves = []
    for size in (1.0, 100.0):
        model = dense(4)
        engine = Engine.from_model(model)
        weight = engine.get_parameter("tensors.w1")
        with torch.no_grad():
            weight.div_(size)
        training = Training(optimizer=optimizer, momentum=0, weight_decay=0, gradient_clip=None)
        state = State(engine, training, [], {"x": size})
        before = weight.detach().clone()
        engine({"x": torch.tensor(inputs(16, WIDTH)) * size})["y"].square().sum().backward()
        state.update(0.01)
        moves.append((weight.detach() - before) * size)
    assert torch.allclose(*moves, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("fixed", [1, 8, 48])
def test_a_batch_that_the_model_fixes_is_accumulated(fixed: int, tmp_path: Path) -> None:
    """So that a step sees as many samples as asked for, or the model's own number if that is larger."""
    split = problem(96)
    training = STEPS.model_copy(update={"validation": 10})
    free, _ = fine_tune(
        dense(4), training.model_copy(update={"batch_size": max(fixed, 32)}), context(tmp_path, split)
    )
    trained, details = fine_tune(dense(4, shape=(fixed, WIDTH)), training, context(tmp_path, split))
    assert details["samples_at_once"] == fixed
    assert np.allclose(trained.initializer("w1"), free.initializer("w1"), atol=1e-5)


def test_a_model_without_an_axis_for_samples(tmp_path: Path) -> None:
    x = inputs(40, 5, WIDTH)
    split = Split({"x": x}, answers(x, 4).argmax(-1))
    _, details = fine_tune(dense(4, shape=("length", WIDTH)), Training(), context(tmp_path, split))
    assert details["samples_at_once"] == 1
    assert details["objective"] == "classification of positions and distillation"
    assert details["history"][-1]["loss"] < details["history"][0]["loss"]
    assert 0 <= details["history"][-1]["token_accuracy"] <= 1


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.training.progress._EVERY", 0)
    told = Told()
    training = STEPS.model_copy(update={"validation": 16})
    fine_tune(
        dense(4), training, context(tmp_path, problem(), report=told), stage=Stage("tuning", None, (0.5, 0.4))
    )
    fractions = [fraction for fraction, *_ in told.lines]
    assert fractions == sorted(fractions)
    assert fractions[0] == pytest.approx(0.5 + 0.4 / 12)
    assert fractions[-1] == pytest.approx(0.9)
    _, message, numbers = told.lines[-1]
    assert message == "tuning: step 12 of 12"
    wanted = {"step", "steps", "epoch", "loss", "samples_per_second", "eta_seconds", "learning_rate"}
    assert wanted | {"validation_loss", "accuracy"} == set(numbers)
    assert numbers["eta_seconds"] == 0
    assert numbers["samples_per_second"] > 0


def test_frozen_statistics_stay(tmp_path: Path) -> None:
    x = inputs(64, 1, 4, 4)
    split = Split({"x": x}, np.digitize(x[:, 0], [-0.5, 0.5]))
    model = convolutional()
    kept, moved = (
        fine_tune(model, STEPS.model_copy(update={"batchnorm": policy}), context(tmp_path, split))[0]
        for policy in ("frozen", "train")
    )
    assert np.array_equal(kept.initializer("m"), model.initializer("m"))
    assert not np.array_equal(moved.initializers.keys(), [])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_rises_and_falls(schedule: str) -> None:
    training = Training(learning_rate=0.4, warmup=0.1, schedule=schedule)
    rates = [rate(training, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.4 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert max(rates) == rates[10] == pytest.approx(0.4)
    if schedule == "constant":
        assert set(rates[10:]) == {0.4}
    else:
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[55] == pytest.approx(0.2)
        assert 0 < rates[99] < 1e-3
    assert rate(Training(warmup=0), 0, 1) == pytest.approx(0.01)
