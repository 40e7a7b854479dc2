"""Pare's static quantization beside its peers, on the same models, calibration samples and held-out samples.

    python -m benchmarks.peers [--models fashion direction detector mobilenet] [--data DIR] [--json FILE]

DIR holds ppocr-v4/*.onnx and mobilenet_v2/*.pth; a model that is not
there is left out. The example CNN comes with the project. Inputs: see inputs.py. Every compression runs in a
process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from benchmarks import subjects
from benchmarks.rivals import TOOLS

PAIRS = 150
BOOTSTRAP = 2000
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One tool on one model; ratios are original / compressed."""

    model: str
    tool: str
    error: str | None = None
    sqnr_db: float | None = None
    metric: float | None = None
    metric_original: float | None = None
    agreement: float | None = None
    bytes_ratio: float | None = None
    latency_ratio: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    seconds: float | None = None
    peak_mib: int | None = None


def compress(tool: str, subject: subjects.Subject, into: Path) -> dict[str, Any]:
    """Runs the tool in a fresh process: {seconds, peak_mib} or {error}."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.rivals",
        tool,
        str(subject.model),
        str(subject.data),
        str(into),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        return {"error": lines[-1][:160]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def outputs(session: Any, subject: subjects.Subject) -> Any:
    batches = [session.run(None, {subject.input: batch})[0] for batch in subject.test_batches()]
    return np.concatenate(batches)


def fidelity(subject: subjects.Subject, reference: Any, found: Any) -> dict[str, Any]:
    noise = float(np.square(found - reference, dtype=np.float64).sum())
    sqnr = 10 * np.log10(float(np.square(reference, dtype=np.float64).sum()) / max(noise, 1e-30))
    before, after = subject.decide(reference), subject.decide(found)
    labels = subject.labels
    metric = None if labels is None else float((after == labels).mean())
    original = None if labels is None else float((before == labels).mean())
    agreement = float((before == after).mean())
    return {"sqnr_db": sqnr, "metric": metric, "metric_original": original, "agreement": agreement}


def latency(sessions: list[Any], subject: subjects.Subject) -> list[Any]:
    """Seconds of each session, run in turns on one sample at a time, in an order that changes from turn to
    turn.
    """
    taken: list[list[float]] = [[] for _ in sessions]
    rng = np.random.default_rng(0)
    sample = {subject.input: subject.sample()}
    for turn in range(PAIRS + 5):
        for index in rng.permutation(len(sessions)):
            start = perf_counter()
            sessions[index].run(None, sample)
            if turn >= 5:
                taken[index].append(perf_counter() - start)
    return [np.array(times) for times in taken]


def ratio(original: Any, compressed: Any) -> tuple[float, float, float]:
    """Ratio of medians with its 95 % bootstrap interval; turns are resampled as pairs."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(original), (BOOTSTRAP, len(original)))
    ratios = np.median(original[chosen], axis=1) / np.median(compressed[chosen], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(original) / np.median(compressed)), float(low), float(high)


def measure(subject: subjects.Subject, scratch: Path) -> Iterator[Row]:
    files, made, rows = {}, {}, []
    for tool in TOOLS:
        files[tool] = scratch / f"{subject.name}.{tool}.onnx"
        made[tool] = compress(tool, subject, files[tool])
    reached = [tool for tool in TOOLS if "error" not in made[tool]]
    sessions = [subjects.session(path) for path in (subject.model, *(files[tool] for tool in reached))]
    reference = outputs(sessions[0], subject)
    times = latency(sessions, subject)
    for position, tool in enumerate(reached, start=1):
        value, low, high = ratio(times[0], times[position])
        rows.append(
            Row(
                subject.name,
                tool,
                **fidelity(subject, reference, outputs(sessions[position], subject)),
                bytes_ratio=subject.model.stat().st_size / files[tool].stat().st_size,
                latency_ratio=value,
                latency_low=low,
                latency_high=high,
                **made[tool],
            )
        )
    yield from rows
    yield from (Row(subject.name, tool, error=made[tool]["error"]) for tool in TOOLS if tool not in reached)


def line(row: Row) -> str:
    if row.error is not None:
        return f"| {row.model} | {row.tool} | {row.error} | | | | | | |"
    metric = (
        ""
        if row.metric is None or row.metric_original is None
        else f"{row.metric:.4f} ({row.metric_original:.4f})"
    )
    speed = f"{row.latency_ratio:.2f} ({row.latency_low:.2f}-{row.latency_high:.2f})"
    return (
        f"| {row.model} | {row.tool} | {row.sqnr_db:.1f} | {metric} | {row.agreement:.4f} "
        f"| {row.bytes_ratio:.2f} | {speed} | {row.seconds:.1f} | {row.peak_mib} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=sorted(subjects.MAKERS), default=list(subjects.MAKERS))
    parser.add_argument("--data", type=Path, default=Path("benchmark-data"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        "| model | tool | SQNR dB | metric (original) | agreement | smaller x | faster x (95 %) | s | MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        for name in options.models:
            subject = subjects.MAKERS[name](options.data, Path(scratch))
            for row in measure(subject, Path(scratch)) if subject is not None else ():
                rows.append(row)
                print(line(row), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
