"""The table of operators: what writes each, and when it may read and write codes."""

from collections.abc import Callable
from dataclasses import dataclass

from compression.exports.tflite.step import Step

Write = Callable[[Step], None]


def never(_step: Step) -> bool:
    return False


def always(_step: Step) -> bool:
    return True


@dataclass(frozen=True)
class Operator:
    write: Write
    """Errors: Refused."""
    int8: Callable[[Step], bool] = never
    """Whether the kernel takes codes, given that its data are some."""
    data: int | None = None
    """How many inputs are data and not weights or numbers; None: all."""
    fuses: bool = False
    """Whether the kernel may end with an activation."""


OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str,
    int8: Callable[[Step], bool] = never,
    data: int | None = None,
    fuses: bool = False,
) -> Callable[[Write], Write]:
    """Enters a writer under these names of the default domain."""

    def enter(write: Write) -> Write:
        for name in names:
            OPERATORS[name] = Operator(write, int8, data, fuses)
        return write

    return enter
