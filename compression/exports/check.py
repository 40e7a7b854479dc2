"""An exported file proves itself: reloaded in its own runtime, beside ONNX Runtime on its source."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort

from compression import packages, runtime, samples
from compression.dataset import Array, Dataset, Split
from compression.errors import CompressionError
from compression.export_check import ExportCheck
from compression.exports.export import EXPORTS, Export, Session, unsupported
from compression.measure import latency, question
from compression.measure.fidelity import Fidelity
from compression.measure.question import Question
from compression.measure.score import Score
from compression.measurement import Metric, Ratio, WantedTask
from compression.model import Model

_ROWS, _SECONDS = 2000, 20.0
"""Held-out rows that both run, one by one; fewer where the time is up."""
_TIMED_ROWS = 16
_CLOSE = 1e-3
"""Outputs that differ by more of their scale are told of."""


@dataclass
class _Comparison:
    """Sums and maxima only: memory does not grow with the rows."""

    question: Question | None
    fidelity: Fidelity
    scores: tuple[Score, Score] | None
    """Of the source, and of the exported file."""
    largest: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By output: of the reference, and of the difference."""

    @classmethod
    def of(cls, question: Question | None) -> Self:
        if question is None:
            return cls(None, Fidelity(), None)
        return cls(question, question.fidelity(), (question.score(), question.score()))

    def add(self, reference: dict[str, Array], output: dict[str, Array], rows: slice) -> None:
        """Errors: CompressionError E_NUMERIC where only the exported model gives NaN or infinity."""
        self.fidelity.add(reference, output)
        if self.question is not None and self.scores is not None:
            for score, outputs in zip(self.scores, (reference, output), strict=True):
                score.add(outputs[self.question.output], self.question.labels[rows])
        for name, values in reference.items():
            scale, worst = self.largest.get(name, (0.0, 0.0))
            wanted, found = (np.nan_to_num(one.astype(np.float64)) for one in (values, output[name]))
            own = np.abs(wanted).max(initial=0), np.abs(wanted - found).max(initial=0)
            self.largest[name] = max(scale, float(own[0])), max(worst, float(own[1]))

    @property
    def difference(self) -> float:
        return max(worst / (scale or 1.0) for scale, worst in self.largest.values())

    @property
    def metrics(self) -> tuple[Metric | None, Metric | None]:
        """Those that count."""
        if self.scores is None:
            return None, None
        source, exported = (next(iter(score.metrics()), None) for score in self.scores)
        return source, exported


def check(
    name: str,
    exported: Path,
    source: Path,
    data: Path | None,
    *,
    task: WantedTask = "auto",
    seed: int = 0,
) -> ExportCheck:
    """In this process, which should be a clean one. `source` is the ONNX file that was converted; `task` is
    what the labels ask.

    Errors: CompressionError `format_unavailable`, `format_unsupported`, `dataset_misfit`, E_MODEL_RUN,
    E_NUMERIC.
    """
    export = EXPORTS[name]
    packages.require(export.title, export.packages, export.extra)
    model = Model.open(source)
    chosen = samples.held_out(model, Dataset.open(data) if data else None, seed)
    plain = runtime.session(source, threads=1)
    asked = question.ask(model, chosen.split, task if data else "auto", plain)
    runs = _opened(export, exported, threads=1), plain
    compared = _compare(export, runs, model, chosen.split, _Comparison.of(asked.question))
    times = _time(export, exported, source, model, chosen.split, seed)
    ratio = latency.ratio(times[0], times[1], seed)
    source_metric, metric = compared.metrics
    return ExportCheck(
        format=name,
        filename=export.filename,
        bytes=exported.stat().st_size,
        runtime=export.package,
        runtime_version=packages.version(export.package) or "",
        samples=compared.fidelity.n,
        difference=compared.difference,
        agreement=compared.fidelity.agreement,
        source_metric=source_metric,
        metric=metric,
        latency_ms=latency.summary(times[1]),
        latency=ratio,
        warnings=(*chosen.warnings, *_warnings(export, compared.difference, ratio)),
    )


def _compare(
    export: Export,
    runs: tuple[Session, ort.InferenceSession],
    model: Model,
    split: Split,
    compared: _Comparison,
) -> _Comparison:
    own, plain = runs
    end, done, size = time.monotonic() + _SECONDS, 0, split.batch_size(model.inputs, 1)
    for feeds in samples.first(split, model.inputs, _ROWS):
        reference, output = runtime.run(plain, feeds), own(feeds)
        for name, values in reference.items():
            if name not in output or output[name].shape != values.shape:
                raise unsupported(export.title, f"output {name!r} comes back in another shape")
        compared.add(reference, output, slice(done, done + size))
        done += size
        if time.monotonic() > end:
            break
    if not compared.fidelity.n:
        raise CompressionError("dataset_misfit", "the data set has fewer rows than one batch of the model")
    return compared


def _time(
    export: Export, exported: Path, source: Path, model: Model, split: Split, seed: int
) -> list[latency.Times]:
    def opened(index: int) -> latency.Run:
        if index:
            return _opened(export, exported, threads=1)
        session = runtime.session(source, threads=1)
        return lambda feeds: runtime.run(session, feeds)

    feeds = list(samples.first(split, model.inputs, _TIMED_ROWS))
    return latency.interleaved(opened, 2, feeds, seed)


def _opened(export: Export, path: Path, threads: int) -> Session:
    """Whatever the runtime raises says that the format does not hold the model.

    Errors: CompressionError.
    """
    try:
        session = export.session(path, threads)
    except (CompressionError, MemoryError):
        raise
    except Exception as error:
        raise unsupported(export.title, str(error) or type(error).__name__) from error

    def run(feeds: "dict[str, Array]") -> dict[str, Array]:
        try:
            return session(feeds)
        except (CompressionError, MemoryError):
            raise
        except Exception as error:
            raise unsupported(export.title, str(error) or type(error).__name__) from error

    return run  # type: ignore[return-value]


def _warnings(export: Export, difference: float, ratio: Ratio) -> list[str]:
    found = []
    if difference > _CLOSE:
        found.append(
            f"outputs differ from ONNX Runtime's by up to {difference:.2%} of their largest value: "
            f"{export.title} rounds elsewhere; judge by the agreement"
        )
    if ratio.ci95 is not None and ratio.ci95[1] < 1:
        found.append(f"slower here than ONNX Runtime: {ratio.value:.2f}x")
    return found
