"""The life of a sandboxed child: confine itself, do one operation, write lines of JSON, end."""

import errno
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pydantic import BaseModel

from compression.errors import CompressionError, ErrorKind
from compression.formats import load_dataset, load_model
from compression.measure import compare_all
from compression.search.selection import carve
from compression.step import apply_step
from compression.technique import Report
from workers import examination, exporting, glances, probes
from workers.confinement import confine
from workers.frames import Refusal
from workers.glances import Glance
from workers.operations import (
    Apply,
    Carve,
    Convert,
    Examine,
    InspectDataset,
    InspectModel,
    Measure,
    Measured,
    Preview,
    Probe,
    Prove,
    Request,
    Written,
)

_EVERY = 0.2  # seconds between two lines of progress
_NUMBERS = 16


def live(request: Request, parent: int, filters: bytes, output: int) -> NoReturn:
    """Never returns to the warm process whose copy this is."""
    code = 1
    try:
        _write(output, _answer(request, parent, filters, output))
        code = 0
    finally:
        os._exit(code)


def _answer(request: Request, parent: int, filters: bytes, output: int) -> dict[str, Any]:
    scratch = request.private / "scratch"
    tempfile.tempdir = str(scratch)
    os.environ["TMPDIR"] = str(scratch)
    try:
        confine(request, parent, filters)
        result = _perform(request, scratch, _reporter(output))
    except Exception as error:  # noqa: BLE001  whatever it was, it stays in the log and a stable code leaves
        return {"error": Refusal.of(_refusal(error)).model_dump()}
    return {"result": result.model_dump(mode="json")}


_OUT_OF_MEMORY = CompressionError(
    "E_SANDBOX_OOM", "the model asks for more memory than a job may use", ErrorKind.RESOURCE
)
_INTERNAL = CompressionError(
    "E_INTERNAL", "this should not have happened; the server's log says more", ErrorKind.INTERNAL
)


_DISK = CompressionError(
    "E_SANDBOX_DISK", "the operation writes more than a job may store", ErrorKind.RESOURCE
)
_NATIVE = (
    "allocate memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "not enough memory",
    "start new thread",
)
"""What runtimes say when they get no memory, with a type of error that could mean anything."""


def _refusal(error: Exception) -> CompressionError:
    if isinstance(error, CompressionError) and error.code != "E_MODEL_RUN":
        return error
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NATIVE):
        return _OUT_OF_MEMORY
    if isinstance(error, CompressionError):
        return error
    sys.excepthook(type(error), error, error.__traceback__)
    full = isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)
    return _DISK if full else _INTERNAL


class Place(NamedTuple):
    """Where an operation writes: its output, what only it needs, whatever else its caller takes."""

    into: Path
    scratch: Path
    private: Path
    report: Report


def _perform(request: Request, scratch: Path, report: Report) -> BaseModel:
    task = request.operation
    place = Place(request.private / (task.output or "none"), scratch, request.private, report)
    return PERFORM[type(task)](task, place)


def _apply(task: Apply, at: Place) -> BaseModel:
    return apply_step(
        task.step,
        task.model,
        task.data,
        at.into,
        seed=task.seed,
        scratch=at.scratch,
        threads=task.threads,
        report=at.report,
        original=task.original,
        models=task.models,
        task=task.task,
        resume=task.resume,
        checkpoint=at.private / task.checkpoint,
    )


def _measure(task: Measure, at: Place) -> BaseModel:
    measured = compare_all(
        task.original,
        task.compressed,
        task.data,
        seed=task.seed,
        report=at.report,
        task=task.task,
        classes=task.classes,
        quick=task.quick,
    )
    return Measured(measurements=measured)


def _carve(task: Carve, at: Place) -> BaseModel:
    carve(task.data, at.into, task.most)
    return Written()


PERFORM: Mapping[type[BaseModel], Callable[[Any, Place], BaseModel]] = {
    InspectModel: lambda task, at: load_model(task.source, task.filename, at.into, at.scratch, task.options),
    InspectDataset: lambda task, at: load_dataset(
        task.source, task.filename, at.into, at.scratch, task.options
    ),
    Carve: _carve,
    Examine: lambda task, _: examination.run(task),
    Preview: lambda task, _: examination.preview(task),
    Glance: lambda task, _: glances.run(task),
    Apply: _apply,
    Measure: _measure,
    Convert: lambda task, at: exporting.convert(task, at.into, at.scratch),
    Prove: lambda task, at: exporting.prove(task, at.into),
    Probe: lambda task, _: probes.run(task),
}


def _reporter(output: int) -> Report:
    last = -_EVERY

    def report(fraction: float, message: str, numbers: Mapping[str, float] = {}, /) -> None:
        nonlocal last
        if time.monotonic() - last < _EVERY:
            return
        last = time.monotonic()
        known = {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
        progress = {
            "fraction": min(max(fraction, 0.0), 1.0),
            "message": message[:200],
            "numbers": dict(list(known.items())[:_NUMBERS]),
        }
        _write(output, {"progress": progress})

    return report


def _write(output: int, frame: dict[str, Any]) -> None:
    line = json.dumps(frame, allow_nan=False).encode() + b"\n"
    while line:
        line = line[os.write(output, line) :]
