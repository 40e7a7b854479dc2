"""The life of a sandboxed child: confine itself, do one operation, write lines of JSON, end."""

import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, assert_never

from pydantic import BaseModel

from compression.errors import CompressionError, ErrorKind
from compression.formats import load_dataset, load_model
from compression.measure import compare
from compression.step import apply_step
from workers import probes
from workers.confinement import confine
from workers.operations import Apply, InspectDataset, InspectModel, Measure, Probe, Refusal, Request

_EVERY = 0.2  # seconds between two lines of progress


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


def _perform(request: Request, scratch: Path, report: Callable[[float, str], None]) -> BaseModel:
    into = request.private / (request.operation.output or "none")
    match request.operation:
        case InspectModel() as task:
            return load_model(task.source, task.filename, into, scratch)
        case InspectDataset() as task:
            return load_dataset(task.source, task.filename, into, scratch)
        case Apply() as task:
            apply = partial(apply_step, task.step, task.model, task.data, into, seed=task.seed)
            return apply(scratch=scratch, threads=task.threads, report=report)
        case Measure() as task:
            return compare(task.original, task.compressed, task.data, seed=task.seed, report=report)
        case Probe() as task:
            return probes.run(task)
        case _ as unreachable:
            assert_never(unreachable)


def _reporter(output: int) -> Callable[[float, str], None]:
    last = -_EVERY

    def report(fraction: float, message: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            _write(output, {"progress": {"fraction": min(max(fraction, 0.0), 1.0), "message": message[:200]}})

    return report


def _write(output: int, frame: dict[str, Any]) -> None:
    line = json.dumps(frame, allow_nan=False).encode() + b"\n"
    while line:
        line = line[os.write(output, line) :]
