"""Errors of the service, all of them the core's one error; and the record a failed job keeps of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from compression.errors import CompressionError, ErrorKind, FieldError, Suggestion


class NotFound(CompressionError):
    """It does not exist, or it is another project's: the answer is the same."""

    def __init__(self, what: str, identity: str) -> None:
        super().__init__("not_found", f"There is no {what} {identity!r} in this project.")


class Conflict(CompressionError):
    """The thing is in a state that does not allow it."""

    def __init__(self, code: str, detail: str, *suggestions: Suggestion) -> None:
        super().__init__(code, detail, suggestions=suggestions)


class Invalid(CompressionError):
    """A request that is well-formed and wrong; `errors` say where."""

    def __init__(
        self, code: str, detail: str, errors: Sequence[FieldError] = (), *suggestions: Suggestion
    ) -> None:
        super().__init__(code, detail, errors=errors, suggestions=suggestions)


class Unavailable(CompressionError):
    """A part the service needs is away: worth the same request again later."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail, ErrorKind.INFRASTRUCTURE)


class DatabaseUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("database_unavailable", "The database does not answer.")


class QueueUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("queue_unavailable", "The broker does not answer.")


class BlobsUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("storage_unavailable", "The blob store does not answer.")


class BlobMissing(CompressionError):
    def __init__(self, sha256: str) -> None:
        super().__init__("blob_missing", f"The bytes {sha256} are not in the store.", ErrorKind.INTERNAL)


class StorageFull(CompressionError):
    def __init__(self) -> None:
        super().__init__("storage_full", "The store is full; nothing was kept.", ErrorKind.RESOURCE)


class LeaseLost(CompressionError):
    """The fence moved on: another worker has the job, or it is over. Nothing of this worker counts now."""

    def __init__(self, identity: str) -> None:
        super().__init__("lease_lost", f"The lease of {identity} is lost.", ErrorKind.INFRASTRUCTURE)


@dataclass(frozen=True)
class ErrorRecord:
    """Why a job failed or an upload was rejected. `kind` is the public `class`; `step` the index of the
    failed step.
    """

    code: str
    detail: str
    kind: ErrorKind = ErrorKind.INTERNAL
    errors: Sequence[FieldError] = field(default=())
    suggestions: Sequence[Suggestion] = field(default=())
    step: int | None = None

    @classmethod
    def of(cls, error: CompressionError, step: int | None = None) -> Self:
        return cls(error.code, error.detail, error.kind, tuple(error.errors), tuple(error.suggestions), step)

    def json(self) -> dict[str, Any]:
        """The members of an RFC 9457 problem, as stored and served."""
        return {
            "type": f"urn:pare:problem:{self.code}",
            "title": title(self.code),
            "detail": self.detail,
            "code": self.code,
            "class": self.kind.value,
            "errors": [{"pointer": e.pointer, "detail": e.detail} for e in self.errors],
            "suggestions": [_suggestion(s) for s in self.suggestions],
            "retryable": self.kind is ErrorKind.INFRASTRUCTURE,
            "step": self.step,
        }


def in_recipe(error: CompressionError, step: int, recipe: Mapping[str, Any]) -> ErrorRecord:
    """Of a failed step: what it said of its own parameters, said of the request. A merge patch replaces a
    list as a whole.
    """
    steps = list(recipe["steps"])

    def whole(patch: Mapping[str, Any]) -> dict[str, Any]:
        return {"recipe": {"steps": [*steps[:step], merged(steps[step], patch), *steps[step + 1 :]]}}

    record = ErrorRecord.of(error, step)
    return replace(
        record,
        errors=[
            e
            if e.pointer.startswith("/dataset_id")
            else replace(e, pointer=f"/recipe/steps/{step}{e.pointer}")
            for e in record.errors
        ],
        suggestions=[
            replace(s, patch=whole(s.patch) if s.patch is not None else None) for s in record.suggestions
        ],
    )


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def title(code: str) -> str:
    """A code in words: `E_SANDBOX_OOM` reads "Sandbox oom"."""
    return code.removeprefix("E_").replace("_", " ").lower().capitalize()


def _suggestion(suggestion: Suggestion) -> Mapping[str, Any]:
    if suggestion.patch is None:
        return {"title": suggestion.title}
    return {"title": suggestion.title, "patch": suggestion.patch}
