"""The one training loop: steps, checkpoints, and what to do when numbers or memory give out."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compression.dataset import Split
from compression.engine import Engine, Precision, use_precision
from compression.errors import CompressionError, ErrorKind
from compression.memory import give_back_memory
from compression.technique import Context
from compression.training.batches import Batch, Batches, number
from compression.training.checkpoint import Checkpoint
from compression.training.extension import Extension, Stage
from compression.training.inputs import magnitudes
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.precision import precision_of
from compression.training.progress import Progress
from compression.training.repeatable import repeatable
from compression.training.schedule import rate
from compression.training.state import Diverged, State, diverged
from compression.training.validation import Validation, held_out

__all__ = ["Extension", "Fitted", "Stage", "fit"]

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints; an epoch's end writes one too, where the last is at least `EPOCH_SECONDS` old."""
EPOCH_SECONDS = 10.0
_STATISTICS_FROM = 32
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "could not create a primitive",
)


@dataclass(frozen=True)
class Fitted:
    details: Mapping[str, Any]
    """JSON: objective, steps, history by epoch, precision, speed, and what went wrong on the way."""


def fit(  # noqa: PLR0913  the loop's whole world
    engine: Engine,
    objective: Objective,
    split: Split,
    training: Training,
    context: Context,
    *,
    extensions: Sequence[Extension] = (),
    stage: Stage = Stage(),  # noqa: B008  immutable
) -> Fitted:
    """Trains the engine, which ends in eval mode with the final values.

    Goes on from `context.resume` if that is a checkpoint of this stage. On a CPU, the same seed, threads and
    precision give the same bytes, resumed or not.

    Errors: CompressionError E_DIVERGED, E_SANDBOX_OOM, and the objective's.
    """
    with repeatable(context.threads):
        return _Run(engine, objective, split, training, context, extensions, stage).whole()


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
        held, used = held_out(split, training, context.seed)
        self.batches = Batches(
            split=split,
            inputs=engine.model.inputs,
            indices=used,
            size=training.batch_size,
            seed=context.seed,
            augmentation=training.augmentation,
            teach=objective.teacher,
        )
        self.validation = Validation(self.batches, held, objective)
        self.steps = math.ceil(training.epochs * self.batches.per_epoch)
        self.state = State(engine, training, extensions, magnitudes(split, engine.model.inputs))
        self.progress = Progress(context, stage.name, stage.span, self.steps)
        self.path = context.checkpoint or context.scratch / "checkpoint.safetensors"
        self.written = time.monotonic()
        self.step = 0
        self.part = self.batches.fixed or self.batches.size
        self.retried = False
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, int] | None = None
        self.losses: list[float] = []

    def whole(self) -> Fitted:
        if self.steps:
            self._begin()
        while self.step < self.steps and not self._stopped():
            try:
                self._go_on()
            except Diverged:
                self._retry()
        self.state.finish()
        for extension in self.extensions:
            extension.after_training()
        self.engine.eval()
        return Fitted(self._details())

    def _begin(self) -> None:
        self.engine.train()
        checkpoint = Checkpoint.open(self.context.resume)
        if checkpoint is not None and checkpoint.stage == self.stage.name:
            self._restore(checkpoint)
        else:
            self.state.precision = self._precision()
            use_precision(self.engine, self.state.precision)
        self._write()

    def _precision(self) -> Precision:
        while True:
            try:
                return precision_of(
                    self.engine, self.training, self.batches.of_step(0), self.part, self.steps
                )
            except (RuntimeError, MemoryError) as error:
                self._halve(error)

    def _go_on(self) -> None:
        """Steps until the end, or until something is out of order. Errors: Diverged."""
        self._normalisation()
        self.progress.start()
        for batch in self.batches.stream(self.step, self.steps):
            loss = self._train(batch)
            self.losses.append(loss)
            self.step += 1
            self.progress.count(len(batch))
            left = (self.steps - self.step) * self.batches.size
            self.progress.tell(self.step, left, lambda loss=loss: self._numbers(loss))  # type: ignore[misc]
            if self._finish_step():
                return

    def _train(self, batch: Batch) -> float:
        """One step. The loss. Errors: Diverged, CompressionError E_NUMERIC."""
        for extension in self.extensions:
            extension.before_step(self.step, self.steps)
        loss = self._gradients(batch)
        if not math.isfinite(loss):
            batch.check_finite()
            raise Diverged
        self.state.update(rate(self.training, self.step, self.steps))
        for extension in self.extensions:
            extension.after_step(self.step, self.steps)
        return loss

    def _normalisation(self) -> None:
        policy = self.training.batchnorm
        few = self.part < _STATISTICS_FROM
        self.engine.frozen_statistics = policy == "frozen" or (policy == "auto" and few)

    def _gradients(self, batch: Batch) -> float:
        while True:
            try:
                return self._passes(batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
            give_back_memory()

    def _passes(self, batch: Batch) -> float:
        """Forward and backward of the batch's parts; their gradients add up to the whole batch's."""
        torch.default_generator.manual_seed(number((self.context.seed, self.step, 2)))
        self.state.zero()
        total = 0.0
        for part in batch.parts(self.part):
            loss = self.objective(self.engine(part.inputs), part) * (len(part) / len(batch))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _halve(self, error: Exception) -> None:
        """Out of memory: half the samples at once. Any other error goes on."""
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise error
        self.state.zero()
        if self.part == 1 or self.batches.fixed:
            raise CompressionError(
                "E_SANDBOX_OOM", "one sample asks for more memory than a job may use", ErrorKind.RESOURCE
            ) from error
        self.part = (self.part + 1) // 2
        self._normalisation()
        message = f"out of memory: {self.part} samples at once from here on, gradients accumulated"
        self.progress.say(self.step, message, {"samples_at_once": self.part})

    def _finish_step(self) -> bool:
        """After an epoch: the held-out samples, and whether that was enough. Writes a checkpoint when due.
        Errors: Diverged.
        """
        ended = self.step % self.batches.per_epoch == 0 or self.step == self.steps
        age = time.monotonic() - self.written
        due = age >= CHECKPOINT_SECONDS or (ended and age >= EPOCH_SECONDS)
        if ended or due:
            self.state.check()
        if ended:
            self._epoch()
        if due:
            self._write()
        if ended or due:
            self.progress.start()
        return self._stopped()

    def _epoch(self) -> None:
        record = {"epoch": round(self.step / self.batches.per_epoch, 4), "loss": float(np.mean(self.losses))}
        self.losses = []
        with self.state.final_values():
            record |= self.validation.measure(self.engine, self.part)
        loss = record.get("validation_loss")
        if loss is not None and (self.best is None or loss < self.best[0]):
            self.best = loss, len(self.history)
            if self.training.patience is not None:
                self.state.keep_best()
        self.history.append(record)

    def _stopped(self) -> bool:
        patience = self.training.patience
        return patience is not None and self.best is not None and len(self.history) - self.best[1] > patience

    def _retry(self) -> None:
        """From the last good checkpoint, once, at a tenth of the learning rate."""
        if self.retried:
            raise diverged(self.step, self.training.peak_rate / 100)
        good = Checkpoint.open(self.path)
        assert good is not None  # noqa: S101  written at the beginning
        self._restore(good)
        self.retried, self.state.factor = True, 0.1
        message = f"the loss became NaN: back to step {self.step}, at a tenth of the learning rate"
        self.progress.say(self.step, message, {})
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

    def _numbers(self, loss: float) -> dict[str, float]:
        return {
            **(self.history[-1] if self.history else {}),
            "epoch": self.step / self.batches.per_epoch,
            "loss": loss,
            "learning_rate": rate(self.training, self.step, self.steps) * self.state.factor,
        }

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
            "samples_per_second": round(self.progress.samples_per_second, 1),
            "learning_rate": self.training.peak_rate * self.state.factor,
            "stopped_early": self.step < self.steps,
            "restarted_at_a_tenth_of_the_rate": self.retried,
        }
