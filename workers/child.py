"""The life of a sandboxed child: confine itself, do one operation, write lines of JSON, end."""

import errno
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, assert_never

from pydantic import BaseModel

from compression.errors import CompressionError, ErrorKind
from compression.formats import load_dataset, load_model
from compression.inspection import ModelInspection
from compression.measure import compare_all
from compression.model import Model
from compression.step import apply_step
from compression.technique import REGISTRY, Report
from workers import probes
from workers.confinement import confine
from workers.operations import Apply, InspectDataset, InspectModel, Measure, Measured, Probe, Refusal, Request

_EVERY = 0.2  # seconds between two lines of progress
_EXAMINATION = 10  # seconds in which a technique must have examined a model
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
    except CompressionError as error:
        return {"error": Refusal.of(error).model_dump()}
    except MemoryError:
        return {"error": Refusal.of(_OUT_OF_MEMORY).model_dump()}
    except OSError as error:
        return {"error": Refusal.of(_of_system(error)).model_dump()}
    except Exception as error:  # noqa: BLE001  whatever it was, it stays in the log and a stable code leaves
        sys.excepthook(type(error), error, error.__traceback__)
        return {"error": Refusal.of(_INTERNAL).model_dump()}
    return {"result": result.model_dump(mode="json")}


_OUT_OF_MEMORY = CompressionError(
    "E_SANDBOX_OOM", "the model asks for more memory than a job may use", ErrorKind.RESOURCE
)
_INTERNAL = CompressionError(
    "E_INTERNAL", "this should not have happened; the server's log says more", ErrorKind.INTERNAL
)


def _of_system(error: OSError) -> CompressionError:
    sys.excepthook(type(error), error, error.__traceback__)
    if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
        detail = "the operation writes more than a job may store"
        return CompressionError("E_SANDBOX_DISK", detail, ErrorKind.RESOURCE)
    return _INTERNAL


def _perform(request: Request, scratch: Path, report: Report) -> BaseModel:
    into = request.private / (request.operation.output or "none")
    match request.operation:
        case InspectModel() as task:
            return _examined(load_model(task.source, task.filename, into, scratch), into)
        case InspectDataset() as task:
            return load_dataset(task.source, task.filename, into, scratch)
        case Apply() as task:
            return apply_step(
                task.step,
                task.model,
                task.data,
                into,
                seed=task.seed,
                scratch=scratch,
                threads=task.threads,
                report=report,
                original=task.original,
                models=task.models,
                resume=task.resume,
                checkpoint=request.private / task.checkpoint,
            )
        case Measure() as task:
            measured = compare_all(task.original, task.compressed, task.data, seed=task.seed, report=report)
            return Measured(measurements=measured)
        case Probe() as task:
            return probes.run(task)
        case _ as unreachable:
            assert_never(unreachable)


def _examined(inspection: ModelInspection, path: Path) -> ModelInspection:
    """With what each technique finds that it could do; one that fails or takes long has nothing to say."""
    signal.signal(signal.SIGALRM, _late)
    model, found = Model.open(path), {}
    for name, technique in sorted(REGISTRY.items()):
        try:
            signal.alarm(_EXAMINATION)
            found[name] = dict(technique.examine(model))
        except Exception as error:  # noqa: BLE001  the upload is good all the same
            sys.stderr.write(f"{name} cannot examine the model: {error!r}\n")
        finally:
            signal.alarm(0)
    return inspection.model_copy(update={"abilities": {name: what for name, what in found.items() if what}})


def _late(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError


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
