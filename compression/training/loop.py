"""The one training loop: steps, checkpoints, progress, and what to do when numbers or memory give out."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compression.dataset import Split
from compression.engine import Engine, Precision, choose_precision, use_precision
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.technique import Context
from compression.training.batches import Batch, Batches, Indices
from compression.training.checkpoint import Checkpoint
from compression.training.inputs import magnitudes
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.schedule import rate
from compression.training.state import State

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints; an epoch's end writes one too, where the last is at least `EPOCH_SECONDS` old."""
EPOCH_SECONDS = 10.0
_REPORT_SECONDS = 0.5
_QUICK_STEP = 0.02
"""Seconds of a step below which number formats are not tried out: it is quick, and it repeats."""
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "could not create a primitive",
)


class Extension(Protocol):
    """What a technique adds to the loop."""

    def before_step(self, step: int, steps: int) -> None:
        """Before the forward pass of step `step` of `steps`, from 0."""

    def after_step(self, step: int, steps: int) -> None:
        """After the weights have moved."""

    def after_training(self) -> None:
        """Once, when the final values (averaged, or the best) are in place."""

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint must hold."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Back to where it was."""


@dataclass(frozen=True)
class Fitted:
    details: Mapping[str, Any]
    """JSON: objective, steps, history by epoch, precision, speed, and what went wrong on the way."""


@dataclass(frozen=True)
class Stage:
    """One training of a step, and which part of the step's progress it is."""

    name: str = "training"
    notes: Mapping[str, Any] | None = None
    """JSON kept in checkpoints: what the technique did before, to be replayed."""
    span: tuple[float, float] = (0.0, 1.0)


def fit(  # noqa: PLR0913  the loop's whole world
    engine: Engine,
    objective: Objective,
    split: Split,
    training: Training,
    context: Context,
    *,
    extensions: Sequence[Extension] = (),
    stage: Stage = Stage(),
) -> Fitted:
    """Trains the engine, which ends in eval mode with the final values.

    Goes on from `context.resume` if that is a checkpoint of this stage. On a CPU, the same seed, threads and
    precision give the same bytes, resumed or not.

    Errors: CompressionError E_DIVERGED, E_SANDBOX_OOM, and the objective's.
    """
    torch.set_num_threads(context.threads)
    with torch.random.fork_rng(devices=[]):
        return _Run(engine, objective, split, training, context, extensions, stage).whole()


class _Diverged(Exception):
    """The loss is no number any more."""


class _Run:
    def __init__(  # noqa: PLR0913, PLR0917  those of `fit`
        self,
        engine: Engine,
        objective: Objective,
        split: Split,
        training: Training,
        context: Context,
        extensions: Sequence[Extension],
        stage: Stage,
    ) -> None:
        self.engine, self.objective, self.training, self.context = engine, objective, training, context
        self.stage, self.extensions = stage, extensions
        inputs = engine.model.inputs
        held, used = held_out(split, training, context.seed)
        size = split.batch_size(inputs, training.batch_size)
        self.fixed = size if size < training.batch_size else 0
        self.batches = Batches(
            split=split,
            inputs=inputs,
            indices=used,
            size=1 if objective.unbatched else training.batch_size,
            seed=context.seed,
            augmentation=training.augmentation,
            teach=objective.teacher,
        )
        self.held = held
        self.steps = max(1, math.ceil(training.epochs * self.batches.per_epoch)) if training.epochs else 0
        self.state = State(engine, training, extensions, magnitudes(split, inputs))
        self.part = self.fixed or self.batches.size
        self.retried = False
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, int] | None = None
        self.path = context.checkpoint or context.scratch / "checkpoint.safetensors"
        self.told = self.written = time.monotonic()
        self.speed = 0.0
        self.step = 0
        self.losses: list[float] = []

    def whole(self) -> Fitted:
        self._begin()
        while self.step < self.steps and not self._stopped():
            try:
                self._go_on()
            except _Diverged:
                self._retry()
        self.state.finish()
        for extension in self.extensions:
            extension.after_training()
        self.engine.eval()
        return Fitted(self._details())

    def _begin(self) -> None:
        self.engine.train()
        self.engine.frozen_statistics = self.training.batchnorm != "train"
        checkpoint = Checkpoint.open(self.context.resume)
        if checkpoint is not None and checkpoint.stage == self.stage.name:
            self._restore(checkpoint)
            return
        precision = self._precision()
        use_precision(self.engine, precision)
        self.state.precision = precision
        self._write()

    def _precision(self) -> Precision:
        if self.training.precision == "float32" or not self.steps:
            return Precision()
        if self.training.precision == "bfloat16":
            return Precision(torch.bfloat16, channels_last=bool(self.engine.image_weights))
        batch = next(self.batches.of_step(0).parts(self.part))
        self._quick(batch)
        return (
            Precision() if self._quick(batch) < _QUICK_STEP else choose_precision(self.engine, batch.inputs)
        )

    def _quick(self, batch: Batch) -> float:
        with torch.no_grad():
            self.engine.eval()
            begin = time.perf_counter()
            self.engine(batch.inputs)
            self.engine.train()
        return time.perf_counter() - begin

    def _go_on(self) -> None:
        """Steps until the end, or until something is out of order. Errors: _Diverged."""
        began, first = time.monotonic(), self.step
        for batch in self.batches.stream(self.step, self.steps):
            for extension in self.extensions:
                extension.before_step(self.step, self.steps)
            loss = self._gradients(batch)
            if not math.isfinite(loss):
                raise _Diverged
            self.state.update(rate(self.training, self.step, self.steps))
            for extension in self.extensions:
                extension.after_step(self.step, self.steps)
            self.step += 1
            self.losses.append(loss)
            self.speed = (self.step - first) * self.batches.size / (time.monotonic() - began)
            self._tell(loss)
            if self._finish_step():
                return

    def _gradients(self, batch: Batch) -> float:
        while True:
            try:
                return self._passes(batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)

    def _passes(self, batch: Batch) -> float:
        """Forward and backward of the batch's parts; their gradients add up to the whole batch's."""
        torch.manual_seed(int(np.random.default_rng((self.context.seed, self.step, 2)).integers(1 << 62)))
        self.state.zero()
        total = 0.0
        for part in batch.parts(self.part):
            share = len(part) / len(batch)
            loss = self.objective(self.engine(part.inputs), part) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _halve(self, error: Exception) -> None:
        """Out of memory: half the samples at once. Any other error goes on."""
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise error
        self.state.zero()
        if self.part == 1 or self.fixed:
            raise CompressionError(
                "E_SANDBOX_OOM", "one sample asks for more memory than a job may use", ErrorKind.RESOURCE
            ) from error
        self.part = max(1, self.part // 2)
        message = f"out of memory: {self.part} samples at once from here on, gradients accumulated"
        self.context.report(self._fraction(), message, {"step": self.step, "samples_at_once": self.part})

    def _finish_step(self) -> bool:
        """After an epoch: the held-out samples, and whether that was enough. Writes a checkpoint when due."""
        ended = self.step % self.batches.per_epoch == 0 or self.step == self.steps
        if ended:
            self._epoch()
        age = time.monotonic() - self.written
        if age >= CHECKPOINT_SECONDS or (ended and age >= EPOCH_SECONDS):
            self._write()
        return self._stopped()

    def _epoch(self) -> None:
        record = {"epoch": round(self.step / self.batches.per_epoch, 4), "loss": float(np.mean(self.losses))}
        self.losses = []
        if len(self.held):
            record |= self._validate()
            if self.best is None or record["validation_loss"] < self.best[0]:
                self.best = record["validation_loss"], len(self.history)
                if self.training.patience is not None:
                    self.state.keep_best()
        self.history.append(record)

    def _validate(self) -> dict[str, float]:
        with self.state.final_values(), torch.no_grad():
            self.engine.eval()
            total, measured = 0.0, list[tuple[str, float, int]]()
            for start in range(0, len(self.held), self.part):
                batch = self.batches.of(self.held[start : start + self.part])
                outputs = self.engine(batch.inputs)
                total += float(self.objective(outputs, batch)) * len(batch)
                found = self.objective.scores(outputs, batch)
                measured += [found] if found is not None else []
            self.engine.train()
        record = {"validation_loss": total / len(self.held)}
        if measured:
            record[measured[0][0]] = sum(value * n for _, value, n in measured) / sum(n for *_, n in measured)
        return record

    def _stopped(self) -> bool:
        patience = self.training.patience
        return patience is not None and self.best is not None and len(self.history) - self.best[1] > patience

    def _retry(self) -> None:
        """From the last good checkpoint, once, at a tenth of the learning rate."""
        if self.retried:
            lower = self.training.peak_rate / 100
            raise CompressionError(
                "E_DIVERGED",
                f"the loss became NaN or infinite at step {self.step + 1}, also at a tenth of the rate",
                suggestions=[
                    Suggestion(
                        f"Train with a learning rate of {lower:g}", {"training": {"learning_rate": lower}}
                    )
                ],
            )
        good = Checkpoint.open(self.path)
        assert good is not None  # noqa: S101  written at the beginning
        self._restore(good)
        self.retried, self.state.factor = True, 0.1
        message = f"the loss became NaN: back to step {self.step}, at a tenth of the learning rate"
        self.context.report(self._fraction(), message, {"step": self.step})
        self._write()

    def _write(self) -> None:
        progress = {
            "step": self.step,
            "part": self.part,
            "retried": self.retried,
            "history": self.history,
            "best": self.best,
            "losses": self.losses,
            **self.state.scalars(),
        }
        tensors = self.state.tensors()
        Checkpoint(self.stage.name, dict(self.stage.notes or {}), progress, tensors).write(self.path)
        self.written = time.monotonic()

    def _restore(self, checkpoint: Checkpoint) -> None:
        progress = checkpoint.progress
        self.step, self.part, self.retried = progress["step"], progress["part"], progress["retried"]
        self.history, self.losses = list(progress["history"]), list(progress["losses"])
        self.best = tuple(progress["best"]) if progress["best"] else None
        self.state.restore(progress, checkpoint.tensors)

    def _fraction(self) -> float:
        start, length = self.stage.span
        return start + length * self.step / max(1, self.steps)

    def _tell(self, loss: float) -> None:
        now = time.monotonic()
        if now - self.told < _REPORT_SECONDS:
            return
        self.told = now
        left = (self.steps - self.step) * self.batches.size / self.speed
        numbers = {
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step / self.batches.per_epoch,
            "loss": loss,
            "samples_per_second": self.speed,
            "eta_seconds": left,
            "learning_rate": rate(self.training, self.step, self.steps) * self.state.factor,
        }
        for record in self.history[-1:]:
            numbers |= {name: value for name, value in record.items() if name not in numbers}
        self.context.report(self._fraction(), f"{self.stage.name}: step {self.step} of {self.steps}", numbers)

    def _details(self) -> dict[str, Any]:
        precision = self.state.precision
        return {
            **self.objective.summary,
            "steps": self.step,
            "samples": self.batches.size * self.batches.per_epoch,
            "history": self.history,
            "precision": "bfloat16" if precision.autocast is not None else "float32",
            "channels_last": precision.channels_last,
            "samples_at_once": self.part,
            "learning_rate": self.training.peak_rate * self.state.factor,
            "restarted_at_a_tenth_of_the_rate": self.retried,
        }


def held_out(split: Split, training: Training, seed: int) -> tuple[Indices, Indices]:
    """Samples for validation and those trained on, both ascending; drawn by the seed."""
    count = min(training.validation, split.n // 10)
    order = np.random.default_rng((seed, 3)).permutation(split.n)
    return np.sort(order[:count]), np.sort(order[count:])
