"""The one error of the core: a stable code, a kind that decides who must act, and a way out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """Who must act: the user (`input`, `unsupported`), the operator (`resource`, `timeout`), or us."""

    INPUT = "input"
    UNSUPPORTED = "unsupported"
    RESOURCE = "resource"
    TIMEOUT = "timeout"
    INFRASTRUCTURE = "infrastructure"
    INTERNAL = "internal"


@dataclass(frozen=True)
class FieldError:
    """What is wrong at one place of a JSON body; `pointer` is an RFC 6901 pointer into it."""

    pointer: str
    detail: str


@dataclass(frozen=True)
class Suggestion:
    """A way out: a sentence and, where it can be stated so, a JSON merge patch (RFC 7396) of the request."""

    title: str
    patch: Mapping[str, Any] | None = None


@dataclass(eq=False)
class CompressionError(Exception):
    """A refusal or a failure with a stable `code` (snake_case, or E_… for what happened while running)."""

    code: str
    detail: str
    kind: ErrorKind = ErrorKind.INPUT
    errors: Sequence[FieldError] = field(default=())
    suggestions: Sequence[Suggestion] = field(default=())

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"
