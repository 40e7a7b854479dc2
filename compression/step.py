"""One step of a recipe on files: what a worker asks a sandbox to do."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

import compression.techniques  # noqa: F401  loading the folder fills the registry
from compression.dataset import Dataset
from compression.errors import CompressionError, ErrorKind
from compression.inspection import ModelInspection
from compression.measurement import WantedTask
from compression.model import Model
from compression.technique import REGISTRY, Applied, Context, Report, Technique, quiet

ENGINE = frozenset({"torch", "safetensors"})
"""What techniques that train run in. An extra: a machine without it does everything else."""


class StepResult(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    details: dict[str, Any]
    inspection: ModelInspection


def apply_step(  # noqa: PLR0913  all that crosses into a sandbox, by name
    step: Mapping[str, Any],
    model: Path,
    data: Path | None,
    into: Path,
    *,
    seed: int,
    scratch: Path,
    threads: int = 1,
    report: Report = quiet,
    original: Path | None = None,
    models: Mapping[str, Path] | None = None,
    resume: Path | None = None,
    checkpoint: Path | None = None,
    task: WantedTask = "auto",
) -> StepResult:
    """Applies a step, given as JSON, to a normalised model file and writes the new one to `into`.

    The other files are those of `Context`. Errors: CompressionError, also `engine_missing`.
    """
    technique = REGISTRY[step["technique"]].model_validate(step)
    source = Model.open(model)
    _refuse(technique, source)
    context = Context(
        Dataset.open(data) if data and technique.required() else None,
        seed,
        scratch,
        threads,
        report,
        Model.open(original) if original else None,
        {name: Model.open(path) for name, path in (models or {}).items()},
        resume,
        checkpoint,
        task,
    )
    applied = _applied(technique, source, context)
    _keeps_interface(source, applied.model)
    applied.model.save(into)
    return StepResult(details=_json(applied.details), inspection=applied.model.inspect())


def _json(details: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    match details:
        case Mapping():
            return {str(name): _json(value) for name, value in details.items()}
        case list() | tuple():
            return [_json(value) for value in details]
        case float() if not math.isfinite(details):
            return None
        case _:
            return details


def _applied(technique: Technique, source: Model, context: Context) -> Applied:
    try:
        return technique.apply(source, context)
    except ModuleNotFoundError as error:
        if error.name not in ENGINE:
            raise
        lacking = f"{technique.technique} runs in {error.name}, which this worker lacks"
        detail = f"{lacking}: install pare-server[worker] there"
        raise CompressionError("engine_missing", detail, ErrorKind.RESOURCE) from error


def _refuse(technique: Technique, source: Model) -> None:
    reason = technique.check(source.inspect())
    if reason:
        raise CompressionError("technique_refused", f"{technique.technique}: {reason}", ErrorKind.UNSUPPORTED)


def _keeps_interface(before: Model, after: Model) -> None:
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise CompressionError(
            "E_INTERNAL",
            "the technique changed names, types or shapes of inputs or outputs",
            ErrorKind.INTERNAL,
        )
