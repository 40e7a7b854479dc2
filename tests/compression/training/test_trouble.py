"""What the loop does when numbers or memory give out."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.dataset import Split
from compression.engine import Engine
from compression.errors import CompressionError, ErrorKind
from compression.training import loop
from compression.training.tuning import fine_tune
from tests.compression.training.problems import (
    STEPS,
    WIDTH,
    At,
    Told,
    answers,
    context,
    dense,
    inputs,
    problem,
)


class Poison(At):
    """NaN in a weight before a step, so many times."""

    def __init__(self, engine: Engine, step: int, times: int) -> None:
        super().__init__(step, self.spoil)
        self.engine, self.times = engine, times

    def spoil(self) -> None:
        if self.times:
            self.times -= 1
            with torch.no_grad():
                self.engine.get_parameter("tensors.w1").fill_(math.nan)


def test_a_loss_that_is_no_number_is_retried_at_a_tenth_of_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    told = Told()
    trained, details = fine_tune(
        dense(4),
        STEPS,
        context(tmp_path, problem(), report=told),
        extensions=lambda engine: [Poison(engine, 7, 1)],
    )
    assert details["restarted_at_a_tenth_of_the_rate"]
    assert details["learning_rate"] == pytest.approx(0.001)
    assert details["steps"] == 15
    assert np.isfinite(trained.initializer("w1")).all()
    assert any("back to step 7" in message for _, message, _ in told.lines)


def test_the_second_time_it_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="E_DIVERGED") as failed:
        fine_tune(
            dense(4),
            STEPS,
            context(tmp_path, problem()),
            extensions=lambda engine: [Poison(engine, 7, 2)],
        )
    assert failed.value.kind is ErrorKind.INPUT
    assert failed.value.suggestions[0].patch == {"training": {"learning_rate": pytest.approx(1e-4)}}


def test_a_rate_far_too_high_is_found_out(tmp_path: Path) -> None:
    training = STEPS.model_copy(update={"learning_rate": 10.0, "gradient_clip": None, "epochs": 20})
    x = 1e4 * inputs(160, WIDTH)
    with pytest.raises(CompressionError, match="E_DIVERGED"):
        fine_tune(dense(4), training, context(tmp_path, Split({"x": x}, answers(x, 4) * 1e18)))


def test_samples_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    x = inputs(160, WIDTH)
    x[::7] = np.nan
    with pytest.raises(CompressionError, match=r"E_NUMERIC.*'x'"):
        fine_tune(dense(4), STEPS, context(tmp_path, Split({"x": x}, answers(inputs(160, WIDTH), 4))))


class Narrow:
    """An engine's forward that has memory for so many samples."""

    def __init__(self, engine: Engine, most: int) -> None:
        self.forward, self.most, self.refused = engine.forward, most, 0

    def __call__(self, given: Mapping[str, torch.Tensor]) -> object:
        if len(next(iter(given.values()))) > self.most:
            self.refused += 1
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory")
        return self.forward(given)


@pytest.mark.parametrize("most", [31, 8, 1])
def test_out_of_memory_halves_the_batch(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the accumulated gradients are those of the whole."""
    split, told = problem(), Told()
    whole, _ = fine_tune(dense(4), STEPS, context(tmp_path, split))
    made: list[Narrow] = []

    def narrowed(engine: Engine) -> list[At]:
        made.append(Narrow(engine, most))
        monkeypatch.setattr(engine, "forward", made[0])
        return []

    trained, details = fine_tune(dense(4), STEPS, context(tmp_path, split, report=told), extensions=narrowed)
    assert details["samples_at_once"] <= most < 2 * details["samples_at_once"] + 1
    assert np.allclose(trained.initializer("w1"), whole.initializer("w1"), atol=1e-5)
    assert sum("out of memory" in message for _, message, _ in told.lines) == made[0].refused


def test_out_of_memory_in_one_sample_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(engine: Engine) -> list[At]:
        monkeypatch.setattr(engine, "forward", Narrow(engine, 0))
        return []

    with pytest.raises(CompressionError, match="E_SANDBOX_OOM") as failed:
        fine_tune(dense(4), STEPS, context(tmp_path, problem()), extensions=none)
    assert failed.value.kind is ErrorKind.RESOURCE


def test_another_error_goes_on(tmp_path: Path) -> None:
    def wrong() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        fine_tune(dense(4), STEPS, context(tmp_path, problem()), extensions=lambda _: [At(3, wrong)])
