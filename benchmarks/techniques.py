"""The trained techniques beside their peers, on the same networks, data and epochs.

    python -m benchmarks.techniques --data DIR [--work DIR] [--seeds 3] [--only resnet/half] [--json FILE]

DIR holds fashion-mnist/*.gz and ppocr-v4/*.onnx. Every result is kept in the work directory by what it was
made from: a stopped run goes on, rows can be made a few at a time, and --cached prints what is there.
Recovery takes --epochs-share of the ten epochs that the networks were trained for; a student takes all ten.
Measured in plain ONNX Runtime at batch 1 on one thread, interleaved with the original, on held-out samples.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from benchmarks.fashion import MAKERS, Source, Subject
from benchmarks.recipes import Entry, Epochs, entries
from benchmarks.trials import StepFailed, Trials

EPOCHS = 10
"""Of the networks' own training."""
HEADER = "| recipe | tool | MACs x | zstd x | faster x | accuracy % | drop | to reach | seeds |"
Found = dict[str, list[dict[str, Any]]]
"""Figures by seed, by the name of the row."""


def means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of the figures that all seeds have."""
    shared = set.intersection(*(set(row) for row in rows))
    numbers = {n for n in shared if all(isinstance(row[n], int | float) for row in rows)}
    return {name: fmean(row[name] for row in rows) for name in numbers}


def compared(entry: Entry, found: Found) -> dict[str, float]:
    """The figures that bounds are on."""
    own = means(found[entry.name])
    own["zstd"] = own["bytes_zstd"]
    others = [means(found[name]) for name in entry.against if found.get(name)]
    if others:
        best = max(others, key=lambda row: row["accuracy"])
        own["fewer_errors"] = 100 * (1 - (100 - own["accuracy"]) / (100 - best["accuracy"]))
        own["below"] = best["accuracy"] - own["accuracy"]
        own["times_faster"] = own["faster"] / best["faster"]
        own["times_smaller"] = own["bytes_zstd"] / best["bytes_zstd"]
    return own


def verdict(entry: Entry, figures: dict[str, float]) -> str:
    said = []
    for bound in entry.bounds:
        if bound.figure not in figures:
            said.append(f"{bound}: not compared")
        elif bound.holds(figures[bound.figure]):
            said.append(f"{bound}: {figures[bound.figure]:.2f}")
        else:
            said.append(f"**{bound}: {figures[bound.figure]:.2f}**")
    return "; ".join(said)


def spread(rows: Sequence[dict[str, Any]], name: str) -> str:
    """The mean, and the range where there are several."""
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    mean = f"{fmean(values):.2f}"
    return f"{mean} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else mean


def line(entry: Entry, found: Found) -> str:
    rows = found[entry.name]
    columns = ("macs", "bytes_zstd", "faster", "accuracy", "drop")
    cells = [entry.recipe, entry.tool, *(spread(rows, name) for name in columns)]
    if entry.subject == "direction":
        cells[5] += f"; agreement {spread(rows, 'agreement')}"
    return f"| {' | '.join([*cells, verdict(entry, compared(entry, found)), str(len(rows))])} |"


def table(subject: Subject, rows: Sequence[Entry], found: Found, failed: dict[str, str]) -> Iterator[str]:
    yield f"\n{subject.title}\n"
    yield HEADER
    yield "|---" * HEADER.count(" | ") + "|---|"
    for entry in rows:
        if found.get(entry.name):
            yield line(entry, found)
        elif entry.name in failed:
            yield f"| {entry.recipe} | {entry.tool} | {failed[entry.name]} | | | | | | |"


def run(options: argparse.Namespace) -> None:
    options.work.mkdir(parents=True, exist_ok=True)
    source = Source(options.data, options.work, options.images, EPOCHS)
    trials = Trials(options.work, options.threads, options.cached, options.measure_again)
    budget = Epochs(EPOCHS * options.epochs_share, options.student_epochs)
    rows = [entry for entry in entries(budget) if any(word in entry.name for word in options.only)]
    subjects = {name: MAKERS[name](source) for name in dict.fromkeys(entry.subject for entry in rows)}
    found: Found = {}
    failed: dict[str, str] = {}
    for seed in range(options.seeds):
        for entry in rows:
            _try(entry, subjects[entry.subject], seed, trials, (found, failed))
            _save(options.json, found)
    for name, subject in subjects.items():
        own = [entry for entry in rows if entry.subject == name]
        print("\n".join(table(subject, own, found, failed)), flush=True)


def _try(
    entry: Entry, subject: Subject, seed: int, trials: Trials, into: tuple[Found, dict[str, str]]
) -> None:
    found, failed = into
    try:
        figures = trials.measured(subject, entry.steps, seed)
    except StepFailed as reason:
        failed[entry.name] = str(reason)
        print(f"{entry.name}, seed {seed}: {reason}", file=sys.stderr, flush=True)
        return
    if figures is not None:
        found.setdefault(entry.name, []).append({"seed": seed, **figures})
        print(f"seed {seed} {entry.subject} {line(entry, found)}", file=sys.stderr, flush=True)


def _save(path: Path | None, found: Found) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("benchmark-data"))
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names: subject/recipe/tool")
    parser.add_argument("--epochs-share", type=float, default=0.3)
    parser.add_argument("--student-epochs", type=float, default=EPOCHS)
    parser.add_argument("--images", type=int, default=60_000, help="trained on, at most")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cached", action="store_true", help="run nothing that was not run before")
    parser.add_argument("--measure-again", action="store_true", help="also what was measured before")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
