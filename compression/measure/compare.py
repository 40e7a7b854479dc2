"""The comparison: one pass over the data, one interleaved timing, and the numbers that need no run."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from compression import runtime, samples
from compression.dataset import Array, Dataset, Split
from compression.inspection import TensorSpec
from compression.measure import latency, layers, metric
from compression.measure.fidelity import Fidelity
from compression.measure.size import Size
from compression.measure.size import measure as measure_size
from compression.measurement import Latency, Measurement, Measurements, Metric, Ratio
from compression.model import Model

Report = Callable[[float, str], None]
_BATCH = 64
_TIMED_SAMPLES = 16


@dataclass(frozen=True)
class _Quiet:
    def __call__(self, _fraction: float, _message: str) -> None: ...


class _Evaluation:
    """Both models' outputs, batch after batch."""

    def __init__(self) -> None:
        self.fidelity = Fidelity()
        self.warnings: list[str] = []
        self.output = ""
        self.scores: tuple[metric.Score, metric.Score] | None = None

    def choose(self, reference: Mapping[str, Array], labels: Array) -> None:
        """What is scored, and how, on seeing the first batch."""
        found, again = metric.choose(reference, labels), metric.choose(reference, labels)
        if found is None or again is None:
            self.warnings.append("the labels fit no output; no task metric was measured")
        else:
            self.output, self.scores = found[0], (found[1], again[1])
            if isinstance(found[1], metric.Accuracy | metric.TokenAccuracy):
                self.fidelity = Fidelity(found[0], found[1].axis)

    def add(self, reference: Mapping[str, Array], output: Mapping[str, Array], labels: Array | None) -> None:
        self.fidelity.add(reference, output)
        if self.scores is not None and labels is not None:
            for score, values in zip(self.scores, (reference, output), strict=True):
                score.add(values[self.output], labels)

    @property
    def metrics(self) -> tuple[Metric, Metric] | None:
        return (self.scores[0].metric(), self.scores[1].metric()) if self.scores else None


def compare(
    original: Path, compressed: Path, data: Path | None, *, seed: int = 0, report: Report = _Quiet()
) -> Measurements:
    """As `compare_all`, for one."""
    return compare_all(original, [compressed], data, seed=seed, report=report)[0]


def compare_all(
    original: Path,
    compressed: Sequence[Path],
    data: Path | None,
    *,
    seed: int = 0,
    report: Report = _Quiet(),
) -> list[Measurements]:
    """Measures normalised files on the test split of a normalised data set, or on random samples: all of them
    in the same passes, each beside the original.

    Errors: CompressionError E_MODEL_RUN, E_NUMERIC, `dataset_misfit`.
    """
    paths = original, *compressed
    models = [Model.open(path) for path in paths]
    report(0.0, "opening")
    chosen = samples.held_out(models[0], Dataset.open(data) if data else None, seed)
    split, inputs = chosen.split, models[0].inputs
    report(0.05, "timing")
    times = _timed(paths, split, inputs, seed)
    report(0.3, "evaluating")
    evaluations = _evaluate(paths, split, inputs, lambda part: report(0.3 + 0.5 * part, "evaluating"))
    report(0.8, "comparing layers")
    errors = [
        layers.sqnr((original, path), (models[0], model), split)
        for path, model in zip(compressed, models[1:], strict=True)
    ]
    report(0.9, "sizing")
    sizes = _sized(paths, models, split)
    results = []
    for index, evaluation in enumerate(evaluations, 1):
        both = (sizes[0], sizes[index]), (times[0], times[index])
        measured = _measurements(*both, evaluation)
        ratios = _ratios(measured) | {"latency": latency.ratio(*both[1], seed)}
        warnings = (*chosen.warnings, *evaluation.warnings, *_weights_warnings(both[0]))
        results.append(
            Measurements(
                original=measured[0],
                compressed=measured[1],
                ratios=ratios,
                layers=errors[index - 1],
                warnings=warnings,
            )
        )
    return results


def _timed(
    paths: Sequence[Path], split: Split, inputs: tuple[TensorSpec, ...], seed: int
) -> list[latency.Times]:
    feeds = list(samples.first(split, inputs, _TIMED_SAMPLES)) or list(split.batches(inputs, 1))[:1]

    def opened(index: int) -> latency.Run:
        session = runtime.session(paths[index], threads=1)
        return lambda sample: session.run(None, sample)

    with runtime.running():
        return latency.interleaved(opened, len(paths), feeds, seed)


def _evaluate(
    paths: Sequence[Path], split: Split, inputs: tuple[TensorSpec, ...], progress: Callable[[float], None]
) -> list[_Evaluation]:
    """One for each candidate; the original runs once for all."""
    threads = len(os.sched_getaffinity(0))
    runs = [
        runtime.run_split(runtime.session(path, threads=threads), split, inputs, size=_BATCH)
        for path in paths
    ]
    evaluations = [_Evaluation() for _ in paths[1:]]
    size, done = split.batch_size(inputs, _BATCH), 0
    for reference, *outputs in zip(*runs, strict=True):
        labels = None if split.labels is None else split.labels[done : done + size]
        for evaluation, output in zip(evaluations, outputs, strict=True):
            if done == 0 and labels is not None:
                evaluation.choose(reference, labels)
            evaluation.add(reference, output, labels)
        done = min(done + size, split.n)
        progress(done / split.n)
    for evaluation in evaluations:
        if evaluation.fidelity.broken_original:
            evaluation.warnings.append(
                "outputs of the original model hold NaN or infinity; they were left out"
            )
    return evaluations


def _sized(paths: Sequence[Path], models: Sequence[Model], split: Split) -> list[Size]:
    feeds = next(split.batches(models[0].inputs, 1))
    count = split.batch_size(models[0].inputs, 1)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda path, model: measure_size(path, model, feeds, count), paths, models))


def _measurements(
    sizes: tuple[Size, Size], times: tuple[latency.Times, latency.Times], evaluation: _Evaluation
) -> tuple[Measurement, Measurement]:
    both = []
    for index in (0, 1):
        own: Latency = latency.summary(times[index])
        score = evaluation.metrics[index] if evaluation.metrics else None
        values = {key: value for key, value in sizes[index]._asdict().items() if key != "finite"}
        both.append(Measurement(**values, latency_ms=own, metric=score))
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
