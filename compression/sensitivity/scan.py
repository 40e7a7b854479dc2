"""The scan: each layer with each technique alone, on few samples."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import onnx

from compression import runtime
from compression.dataset import Array
from compression.errors import CompressionError, ErrorKind
from compression.graph import channels
from compression.graph.preparation import prepare
from compression.model import Model
from compression.sensitivity import changes
from compression.sensitivity.changes import Change
from compression.sensitivity.evaluation import BROKEN, Evaluator, Scores, thinned
from compression.sensitivity.integers import Integers
from compression.sensitivity.layers import Layer, Saved, find, overridable
from compression.sensitivity.options import Name, Options, Using

MOST_LAYERS = 256
"""The largest by multiply-accumulates; others are counted only."""


@dataclass(frozen=True)
class Row:
    """One change alone."""

    layer: str
    technique: str
    setting: Mapping[str, float]
    saved: Saved
    scores: Scores

    @property
    def json(self) -> dict[str, Any]:
        saved = {"bytes": self.saved.bytes, "macs": self.saved.macs, "ms": round(self.saved.seconds * 1e3, 4)}
        return {
            "layer": self.layer,
            "technique": self.technique,
            **self.setting,
            "saved": saved,
            **self.scores.json,
        }

    @property
    def noise(self) -> float:
        """To signal; infinite where outputs are not finite."""
        return math.inf if self.scores.sqnr_db is None else 10 ** (-self.scores.sqnr_db / 10)


@dataclass(frozen=True)
class Scan:
    rows: tuple[Row, ...]
    """What moves outputs least first; those that break them last."""
    sizes: Mapping[str, int]
    """Elements of the weight of each layer that was tried, in graph order."""
    left_out: int
    """Layers that were too many to be tried."""
    samples: int
    task: str | None
    """What the labels ask; None without labels that fit."""
    metric: float | None
    """Of the network as it is, on the same samples."""


def scan(model: Model, options: Options, using: Using) -> Scan:
    """Runs the network once for each change, on at most `samples` samples: the weights are fed to one
    session; int8 takes a session for each layer.

    Errors: CompressionError `nothing_to_analyse`, E_NUMERIC, E_MODEL_RUN, `dataset_misfit`.
    """
    using = replace(using, split=thinned(using.split, options.samples, model.inputs))
    using.report(0.0, "preparing the graph")
    prepared = prepare(model.proto, using.scratch)
    feeds = next(using.split.batches(model.inputs, 1))
    found = find(prepared, feeds, using.scratch, options.exclude)
    layers = _largest(found)
    if not layers:
        raise CompressionError(
            "nothing_to_analyse",
            "the model has no Conv, Gemm or MatMul with a constant weight of its own",
            ErrorKind.UNSUPPORTED,
        )
    tried = _Trial(model, prepared, layers, using)
    rows = list(tried.rows(options, feeds))
    asked = tried.evaluator.asked.question
    itself = tried.evaluator.scores(lambda one: runtime.run(tried.session, one)) if asked else BROKEN
    return Scan(
        tuple(sorted(rows, key=lambda row: row.noise)),
        {layer.name: layer.weight.size for layer in layers},
        len(found) - len(layers),
        tried.evaluator.samples,
        asked.told.task if asked and itself.metric is not None else None,
        None if itself.metric is None else itself.metric.value,
    )


def _largest(layers: Sequence[Layer]) -> list[Layer]:
    """In graph order."""
    ranked = sorted(layers, key=lambda layer: -(layer.macs or layer.weight.size))[:MOST_LAYERS]
    return [layer for layer in layers if layer in ranked]


class _Trial:
    """A network whose weights a run may feed."""

    def __init__(
        self, model: Model, prepared: onnx.ModelProto, layers: Sequence[Layer], using: Using
    ) -> None:
        self.prepared, self.layers, self.using = prepared, layers, using
        names = {tensor.name for tensor in prepared.graph.initializer if len(tensor.dims) > 1}
        self.session = runtime.session(overridable(prepared, names), threads=using.threads)
        self.evaluator = Evaluator.of(model, using.split, using.task, self.session)

    def rows(self, options: Options, feeds: Mapping[str, Array]) -> Iterator[Row]:
        if "static_quantization" in options.techniques:
            yield from self._integers(feeds)
        per_layer: Mapping[Name, Callable[[Layer], Iterator[Change]]] = {
            "weight_quantization": partial(changes.fewer_bits, bits=options.bits),
            "magnitude_pruning": changes.zeros,
            "low_rank": changes.low_rank,
        }
        for technique, change in per_layer.items():
            if technique in options.techniques:
                for layer in self._counted(self.layers, technique):
                    yield from map(self._fed, change(layer))
        if "channel_pruning" in options.techniques:
            self.using.report(0.9, "channel_pruning")
            yield from map(self._fed, changes.Cuts(channels.find(self.prepared, feeds), self.layers))

    def _counted(self, layers: Sequence[Layer], technique: str) -> Iterator[Layer]:
        for number, layer in enumerate(layers):
            self.using.report(0.1 + 0.8 * number / len(layers), f"{technique}: {layer.name}")
            yield layer

    def _fed(self, change: Change) -> Row:
        values = dict(change.make())
        scores = self.evaluator.scores(lambda feeds: runtime.run(self.session, {**feeds, **values}))
        return Row(change.layer, change.technique, change.setting, change.saved, scores)

    def _integers(self, feeds: Mapping[str, Array]) -> Iterator[Row]:
        integers = Integers.of(self.prepared, self.layers, feeds, self.using)
        possible = [layer for layer in self.layers if layer.name in integers.alone]
        for layer in self._counted(possible, "static_quantization"):
            session = runtime.session(integers.write(layer.name), threads=self.using.threads)
            scores = self.evaluator.scores(lambda feeds: runtime.run(session, feeds))  # noqa: B023  run at once
            yield Row(layer.name, "static_quantization", {"bits": 8}, integers.saved(layer), scores)
