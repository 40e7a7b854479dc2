"""Progress: what a training tells while it runs."""

import time
from collections.abc import Callable, Mapping

from compression.technique import Context

_EVERY = 0.5
"""Seconds between two reports."""


class Progress:
    """`span` is where in the step's progress the training begins, and its share of it."""

    def __init__(self, context: Context, name: str, span: tuple[float, float], steps: int) -> None:
        self._context, self._name, self._span, self._steps = context, name, span, max(1, steps)
        self._told = 0.0
        self._seconds, self._samples = 0.0, 0
        self._since = time.monotonic()

    def start(self) -> None:
        """The clock of a step runs from now."""
        self._since = time.monotonic()

    def count(self, samples: int) -> None:
        """A step of so many samples is over."""
        now = time.monotonic()
        self._seconds += now - self._since
        self._samples += samples
        self._since = now

    @property
    def samples_per_second(self) -> float:
        return self._samples / self._seconds if self._seconds else 0.0

    def say(self, step: int, message: str, numbers: Mapping[str, float]) -> None:
        begin, share = self._span
        self._context.report(begin + share * step / self._steps, message, {"step": step, **numbers})

    def tell(self, step: int, left: int, numbers: Callable[[], Mapping[str, float]]) -> None:
        """If it is time again; `left` samples are to come."""
        if time.monotonic() - self._told < _EVERY:
            return
        self._told = time.monotonic()
        speed = self.samples_per_second
        told = {
            "steps": self._steps,
            "samples_per_second": speed,
            "eta_seconds": left / speed if speed else 0.0,
            **numbers(),
        }
        self.say(step, f"{self._name}: step {step} of {self._steps}", told)
