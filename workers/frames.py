"""What a sandboxed child says, as lines of JSON: progress, and at the end a result or why there is none."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import CompressionError, ErrorKind, FieldError, Suggestion

_FROZEN = ConfigDict(frozen=True, extra="forbid")
Text = Annotated[str, Field(max_length=4000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Progress(BaseModel):
    model_config = _FROZEN
    fraction: float = Field(ge=0, le=1, allow_inf_nan=False)
    message: str = Field(max_length=200)
    numbers: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Finite] = Field(
        default={}, max_length=16
    )


class Pointed(BaseModel):
    model_config = _FROZEN
    pointer: Text
    detail: Text


class WayOut(BaseModel):
    model_config = _FROZEN
    title: Text
    patch: dict[str, Any] | None = None


class Refusal(BaseModel):
    """A CompressionError on its way out of the child, which cannot blame the infrastructure."""

    model_config = _FROZEN
    code: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{1,63}$")
    detail: Text
    kind: Literal["input", "unsupported", "resource", "timeout", "internal"]
    errors: list[Pointed] = Field(default=[], max_length=64)
    suggestions: list[WayOut] = Field(default=[], max_length=16)

    @classmethod
    def of(cls, error: CompressionError) -> "Refusal":
        kind = ErrorKind.INTERNAL if error.kind is ErrorKind.INFRASTRUCTURE else error.kind
        return cls(
            code=error.code,
            detail=error.detail[:4000],
            kind=kind.value,
            errors=[Pointed(pointer=e.pointer, detail=e.detail) for e in error.errors[:64]],
            suggestions=[
                WayOut(title=s.title, patch=dict(s.patch) if s.patch else None) for s in error.suggestions
            ],
        )

    def error(self) -> CompressionError:
        errors = [FieldError(e.pointer, e.detail) for e in self.errors]
        suggestions = [Suggestion(s.title, s.patch) for s in self.suggestions]
        return CompressionError(self.code, self.detail, ErrorKind(self.kind), errors, suggestions)


class Frame(BaseModel):
    """One line of the child's: exactly one of the three."""

    model_config = _FROZEN
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: Refusal | None = None
