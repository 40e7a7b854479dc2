"""Pipeline: the steps of a recipe one after the other, whoever carries them out."""

from collections.abc import Callable
from typing import TypeVar

from compression.errors import CompressionError
from compression.technique import Technique

M = TypeVar("M")


class StepFailed(CompressionError):
    """A step's own error, with which step it was and what had been done by then."""

    def __init__(self, error: CompressionError, index: int, done: list[str]) -> None:
        super().__init__(error.code, error.detail, error.kind, error.errors, error.suggestions)
        self.index = index
        self.done = done


def run(steps: tuple[Technique, ...], model: M, apply: Callable[[int, Technique, M], M]) -> M:
    """Folds `apply` over the steps. `M` is whatever stands for a model: a `Model` in a library call, a blob's
    digest in the service, where `apply` looks into the cache first and else sends the step to a sandbox.

    Errors: StepFailed.
    """
    for index, step in enumerate(steps):
        try:
            model = apply(index, step, model)
        except CompressionError as error:
            raise StepFailed(error, index, [s.technique for s in steps[:index]]) from error
    return model
