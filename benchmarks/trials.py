"""Runs and measures chains of steps, each once: what was done lies in a folder by what it was made from."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fashion import Subject
from compression.measure.compare import compare
from compression.measurement import Measurements

ROOT = Path(__file__).parents[1]
Step = Mapping[str, Any]
Steps = tuple[Step, ...]


class StepFailed(Exception):
    """The last line that the process said."""


@dataclass(frozen=True)
class Trials:
    work: Path
    threads: int
    cached: bool = False
    """Nothing is run that was not run before."""
    again: bool = False
    """Models that are there are measured once more: the machine was busy, say."""

    def measured(self, subject: Subject, steps: Steps, seed: int) -> dict[str, Any] | None:
        """Figures of the model that the steps make of the subject; None where it is not there and only what
        was run is asked for.

        Errors: StepFailed.
        """
        model = self._made(subject, steps, seed)
        if model is None:
            return None
        record = model.with_name("measured.json")
        if self.cached and not self.again and not record.exists():
            return None
        if self.again or not record.exists():
            found = figures(compare(subject.model, model, subject.data))
            record.write_text(json.dumps(found, indent=1))
        result: dict[str, Any] = json.loads(record.read_text())
        return result

    def _made(self, subject: Subject, steps: Steps, seed: int) -> Path | None:
        if not steps:
            return subject.model
        folder = self.work / "trials" / key(subject, steps, seed)
        model, record = folder / "model.onnx", folder / "trial.json"
        if record.exists():
            return model
        before = None if self.cached else self._made(subject, steps[:-1], seed)
        if before is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        files = {"model": before, "original": subject.model, "data": subject.data, "into": model}
        request: dict[str, Any] = {
            name: str(path.absolute()) for name, path in (files | {"work": self.work}).items()
        }
        request |= {"step": dict(steps[-1]), "network": subject.network}
        request |= {"seed": seed, "threads": self.threads}
        with self._alone():
            result = _run(request, folder / "request.json")
        record.write_text(json.dumps({**request, "steps": steps, "commit": _commit(), **result}, indent=1))
        return model

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two trainings at once on the same cores take far longer than one after the other."""
        with (self.work / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def key(subject: Subject, steps: Sequence[Step], seed: int) -> str:
    written = json.dumps([subject.digest, steps, seed], sort_keys=True)
    return f"{subject.name}-{seed}-{hashlib.sha256(written.encode()).hexdigest()[:12]}"


def _run(request: dict[str, Any], file: Path) -> dict[str, Any]:
    file.write_text(json.dumps(request, indent=1))
    command = [sys.executable, "-m", "benchmarks.contest", str(file.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    log = file.with_name("log.txt")
    with log.open("w") as errors:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, check=False, cwd=ROOT
        )
    if done.returncode:
        lines = log.read_text().strip().splitlines() or ["no output"]
        raise StepFailed(lines[-1][:200])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()


def figures(measured: Measurements) -> dict[str, Any]:
    """What tables and bounds are made of. Ratios are original / compressed; accuracy and drop in per cent."""
    before, after = measured.original.metric, measured.compressed.metric
    latency = measured.ratios["latency"]
    found: dict[str, Any] = {
        name: ratio.value for name, ratio in measured.ratios.items() if name != "latency"
    }
    found |= {"faster": latency.value, "faster_95": latency.ci95, "sqnr_db": measured.compressed.sqnr_db}
    if before is not None and after is not None:
        found |= {"accuracy": 100 * after.value, "drop": 100 * (before.value - after.value)}
    if measured.compressed.agreement is not None:
        found["agreement"] = 100 * measured.compressed.agreement
    sparse = 1 - measured.compressed.nonzero_params / measured.compressed.params
    return {
        **found,
        "zeros": sparse,
        "files": [m.model_dump(mode="json") for m in (measured.original, measured.compressed)],
    }
