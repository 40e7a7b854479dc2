"""The comparison: one pass over the data, one interleaved timing, and the numbers that need no run."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnxruntime as ort

from compression import mapped, runtime, samples
from compression.dataset import Array, Dataset, Split
from compression.inspection import TensorSpec
from compression.measure import doubts, latency, layers, paired, question, slices
from compression.measure.fidelity import Fidelity
from compression.measure.question import Asked, Question
from compression.measure.size import LEVEL, LEVEL_OF_LARGE, Size
from compression.measure.size import measure as measure_size
from compression.measurement import (
    Drop,
    Latency,
    Measurement,
    Measurements,
    Metric,
    Ratio,
    Slice,
    WantedTask,
)
from compression.model import Model

Report = Callable[[float, str], None]
_TIMED_SAMPLES = 16
_LARGE = (
    "the models are large: they were timed one after the other instead of in turns, run for the metrics "
    f"without prepacked weights, and packed at zstd's level {LEVEL_OF_LARGE} instead of {LEVEL}"
)


@dataclass(frozen=True)
class _Quiet:
    def __call__(self, _fraction: float, _message: str) -> None: ...


class _Evaluation:
    """Both models' outputs, batch after batch."""

    def __init__(self, question: Question | None) -> None:
        self.question = question
        self.fidelity = Fidelity() if question is None else question.fidelity()
        self.scores = None if question is None else (question.score(), question.score())
        self.warnings: list[str] = []

    def add(self, reference: Mapping[str, Array], output: Mapping[str, Array], rows: slice) -> None:
        self.fidelity.add(reference, output)
        if self.question is not None and self.scores is not None:
            labels = self.question.labels[rows]
            for score, values in zip(self.scores, (reference, output), strict=True):
                score.add(values[self.question.output], labels)

    @cached_property
    def metrics(self) -> tuple[tuple[Metric, ...], tuple[Metric, ...]]:
        """Of the original and of the other, as many; none where they are no numbers."""
        if self.scores is None:
            return (), ()
        both = self.scores[0].metrics(), self.scores[1].metrics()
        sound = all(math.isfinite(one.value) for metrics in both for one in metrics)
        return both if sound else ((), ())

    def lost(self, classes: Sequence[str]) -> tuple[Drop | None, tuple[Slice, ...]]:
        """Of the metric that counts, and by which classes, whose names these are."""
        if self.scores is None or self.question is None or not self.metrics[0]:
            return None, ()
        before, after = (score.evidence() for score in self.scores)
        drop = paired.drop((self.metrics[0][0], self.metrics[1][0]), (before, after))
        if not (isinstance(before, paired.Answers) and isinstance(after, paired.Answers)):
            return drop, ()
        if drop is None or self.question.told.task != "classification":
            return drop, ()
        labels = self.question.labels[self.question.labels >= 0]
        parts = slices.by_class(before.right, after.right, labels, classes)
        self.warnings += slices.warnings(parts, drop.value)
        return drop, parts

    def finish(self) -> None:
        if self.fidelity.broken_original:
            self.warnings.append("outputs of the original model hold NaN or infinity; they were left out")
        if self.scores is not None:
            self.warnings += doubts.of(self.scores[0])
        if self.scores is not None and not self.metrics[0]:
            self.warnings.append(
                "no label counts, or outputs are no numbers: no task metric, only fidelity was measured"
            )


def compare(
    original: Path,
    compressed: Path,
    data: Path | None,
    *,
    seed: int = 0,
    report: Report = _Quiet(),
    task: WantedTask = "auto",
) -> Measurements:
    """As `compare_all`, for one."""
    return compare_all(original, [compressed], data, seed=seed, report=report, task=task)[0]


def compare_all(  # noqa: PLR0913  all that is told of a comparison, by name
    original: Path,
    compressed: Sequence[Path],
    data: Path | None,
    *,
    seed: int = 0,
    report: Report = _Quiet(),
    task: WantedTask = "auto",
    classes: Sequence[str] = (),
    quick: bool = False,
) -> list[Measurements]:
    """Measures normalised files on the test split of a normalised data set, or on random samples: all of them
    in the same passes, each beside the original. `task` is what the labels ask, `classes` are their names.
    `quick` packs at zstd's level 3: at 19 it takes a minute for 90 MB.

    Errors: CompressionError E_MODEL_RUN, E_NUMERIC, `dataset_misfit`.
    """
    paths = original, *compressed
    models = [Model.open(path) for path in paths]
    files = [_File(path, model) for path, model in zip(paths, models, strict=True)]
    report(0.0, "opening")
    chosen = samples.held_out(models[0], Dataset.open(data) if data else None, seed)
    split, inputs = chosen.split, models[0].inputs
    report(0.05, "timing")
    times = _timed(files, split, inputs, seed)
    report(0.3, "evaluating")
    asked = question.ask(models[0], split, task if data else "auto", files[0].session())
    evaluations = _evaluate(files, split, inputs, asked, lambda part: report(0.3 + 0.5 * part, "evaluating"))
    report(0.8, "comparing layers")
    errors = [layers.sqnr((models[0], model), split) for model in models[1:]]
    report(0.9, "sizing")
    sizes = _sized(files, split, LEVEL_OF_LARGE if quick or _large(files) else LEVEL)
    results = []
    for index, evaluation in enumerate(evaluations, 1):
        both = (sizes[0], sizes[index]), (times[0], times[index])
        measured, (drop, parts) = _measurements(*both, evaluation), evaluation.lost(classes)
        ratios = _ratios(measured) | {"latency": latency.ratio(*both[1], seed)}
        warnings = (*chosen.warnings, *asked.warnings, *evaluation.warnings, *_weights_warnings(both[0]))
        warnings += (_LARGE,) if _large(files) else ()
        results.append(
            Measurements(
                task=asked.task if evaluation.metrics[0] else None,
                original=measured[0],
                compressed=measured[1],
                ratios=ratios,
                drop=drop,
                slices=parts,
                layers=errors[index - 1],
                warnings=warnings,
            )
        )
    return results


@dataclass(frozen=True)
class _File:
    path: Path
    model: Model

    def session(self, threads: int = 1, *, prepack: bool = False) -> ort.InferenceSession:
        """Of the file itself, or of a large model with its weights where they lie."""
        source = self.model.outline if mapped.size(self.model.outline) else self.path
        return runtime.session(source, threads=threads, prepack=prepack)


def _timed(
    files: Sequence[_File], split: Split, inputs: tuple[TensorSpec, ...], seed: int
) -> list[latency.Times]:
    """As in production: of large models too, kernels have copies of the weights, so these run in turns."""
    feeds = list(samples.first(split, inputs, _TIMED_SAMPLES)) or list(split.batches(inputs, 1))[:1]

    def opened(index: int) -> latency.Run:
        session = files[index].session(prepack=True)
        return lambda sample: session.run(None, sample)

    timed = latency.in_turns if _large(files) else latency.interleaved
    with runtime.running():
        return timed(opened, len(files), feeds, seed)


def _evaluate(
    files: Sequence[_File],
    split: Split,
    inputs: tuple[TensorSpec, ...],
    asked: Asked,
    progress: Callable[[float], None],
) -> list[_Evaluation]:
    """One for each candidate; the original runs once for all."""
    threads = len(os.sched_getaffinity(0))
    runs = [runtime.run_split(file.session(threads), split, inputs, size=asked.batch) for file in files]
    evaluations = [_Evaluation(asked.question) for _ in files[1:]]
    size, done = split.batch_size(inputs, asked.batch), 0
    for reference, *outputs in zip(*runs, strict=True):
        for evaluation, output in zip(evaluations, outputs, strict=True):
            evaluation.add(reference, output, slice(done, done + size))
        done = min(done + size, split.n)
        progress(done / split.n)
    for evaluation in evaluations:
        evaluation.finish()
    return evaluations


def _sized(files: Sequence[_File], split: Split, level: int) -> list[Size]:
    inputs = files[0].model.inputs
    feeds, count = next(split.batches(inputs, 1)), split.batch_size(inputs, 1)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda file: measure_size(file.path, file.model, feeds, count, level), files))


def _large(files: Sequence[_File]) -> bool:
    return any(file.model.is_large for file in files)


def _measurements(
    sizes: tuple[Size, Size], times: tuple[latency.Times, latency.Times], evaluation: _Evaluation
) -> tuple[Measurement, Measurement]:
    both = []
    for index in (0, 1):
        own: Latency = latency.summary(times[index])
        first, *further = evaluation.metrics[index] or (None,)
        values = {key: value for key, value in sizes[index]._asdict().items() if key != "finite"}
        both.append(Measurement(**values, latency_ms=own, metric=first, metrics=tuple(further)))
    fidelity = evaluation.fidelity
    both[1] = both[1].model_copy(
        update={"agreement": fidelity.agreement, "kl": fidelity.kl, "sqnr_db": fidelity.sqnr_db}
    )
    return both[0], both[1]


def _ratios(both: tuple[Measurement, Measurement]) -> dict[str, Ratio]:
    ratios = {}
    for name in ("bytes", "bytes_zstd", "params", "nonzero_params", "macs", "peak_activation_bytes"):
        before, after = (getattr(one, name) for one in both)
        if before and after:
            ratios[name] = Ratio(value=before / after)
    return ratios


def _weights_warnings(sizes: tuple[Size, Size]) -> list[str]:
    named = zip(("original", "compressed"), sizes, strict=True)
    return [f"weights of the {name} model hold NaN or infinity" for name, own in named if not own.finite]
