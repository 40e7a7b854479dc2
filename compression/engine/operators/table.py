"""The table of operators. A builder reads a node once and returns what is called on every run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from compression.engine.graph import Node, Value
from compression.errors import CompressionError, ErrorKind

Kernel = Callable[..., Any]
"""Takes the node's inputs in order (None where omitted); returns its output, or a tuple of several."""
Builder = Callable[[Node], Kernel]


@dataclass(frozen=True)
class Context:
    """What a run knows beyond its tensors."""

    training: bool
    frozen_statistics: bool
    device: torch.device
    observer: Callable[[str, Tensor], None] | None = None
    """Is shown what each fake quantization is about to round, with the name of its scale."""


class Subgraph(Protocol):
    """A compiled subgraph; `captured` are the values of the node's `captures`."""

    def __call__(
        self, context: Context, inputs: Sequence[Value], captured: Sequence[Value]
    ) -> list[Value]: ...


@dataclass(frozen=True)
class Operator:
    build: Builder
    host: frozenset[int] = frozenset()
    """Input slots read as Python numbers: shapes, axes, counts. They stay on the CPU."""
    contextual: bool = False
    """The kernel's first argument is the run's Context; it also gets the node's captures after the inputs."""


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str, host: Sequence[int] = (), contextual: bool = False, domain: str = ""
) -> Callable[[Builder], Builder]:
    """Enter a builder under these names."""

    def enter(build: Builder) -> Builder:
        for name in names:
            if (domain, name) in OPERATORS:
                raise TypeError(f"two builders for {domain}::{name}")
            OPERATORS[domain, name] = Operator(build, frozenset(host), contextual)
        return build

    return enter


def plain(name: str, kernel: Kernel) -> None:
    """Enter an operator without attributes."""
    operator(name)(lambda _node: kernel)


def unsupported(node: Node, why: str) -> CompressionError:
    return CompressionError(
        "engine_unsupported", f"{node.op_type} at {node.label!r}: {why}", ErrorKind.UNSUPPORTED
    )


def ints(values: Tensor | Sequence[int]) -> list[int]:
    """A list of Python integers of a host tensor."""
    if isinstance(values, Tensor):
        return [int(i) for i in values.reshape(-1).tolist()]
    return list(values)


def scalar(node: Node, slot: int) -> float | None:
    """The number at an input slot that holds one constant element."""
    value = node.constants.get(slot)
    if value is None or value.numel() != 1:
        return None
    return float(value.item())
