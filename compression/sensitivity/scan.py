"""The scan: each layer with each technique alone, on few samples."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import onnx

from compression import runtime
from compression.dataset import Array
from compression.errors import CompressionError, ErrorKind
from compression.graph import channels
from compression.graph.channels import Group
from compression.graph.index import Index
from compression.graph.preparation import prepare
from compression.model import Model
from compression.sensitivity import changes
from compression.sensitivity.changes import Change, Cuts
from compression.sensitivity.evaluation import BROKEN, Evaluator, Scores, thinned
from compression.sensitivity.integers import Integers
from compression.sensitivity.layers import Layer, Saved, find, overridable
from compression.sensitivity.options import Name, Options, Using
from compression.sensitivity.suffixes import Stage, Suffixes

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
    """Runs what follows each change, on at most `samples` samples and on activations of the unchanged network
    (`suffixes.CACHED` bytes of them at most). Changed weights are fed to one session for each layer; int8
    takes another.

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
    session = runtime.session(prepared, threads=using.threads)
    evaluator = Evaluator.of(model, using.split, using.task, session)
    suffixes = Suffixes(prepared, evaluator, feeds, using.threads)
    rows = list(_Sites(prepared, layers, options, using, feeds).rows(suffixes))
    asked = evaluator.asked.question
    itself = evaluator.scores(lambda one: runtime.run(session, one)) if asked else BROKEN
    return Scan(
        tuple(sorted(rows, key=lambda row: row.noise)),
        {layer.name: layer.weight.size for layer in layers},
        len(found) - len(layers),
        evaluator.samples,
        asked.told.task if asked and itself.metric is not None else None,
        None if itself.metric is None else itself.metric.value,
    )


def _largest(layers: Sequence[Layer]) -> list[Layer]:
    """In graph order."""
    ranked = sorted(layers, key=lambda layer: -(layer.macs or layer.weight.size))[:MOST_LAYERS]
    return [layer for layer in layers if layer in ranked]


class _Site(NamedTuple):
    """Where a network is changed."""

    name: str
    nodes: frozenset[str]
    """That read what is changed."""
    rows: Callable[[Stage], Iterator[Row]]


@dataclass(frozen=True)
class _Sites:
    prepared: onnx.ModelProto
    layers: Sequence[Layer]
    options: Options
    using: Using
    feeds: Mapping[str, Array]

    def rows(self, suffixes: Suffixes) -> Iterator[Row]:
        """In the order of the graph, as activations are kept for few places at a time."""
        sites = sorted(self._found(), key=lambda site: suffixes.first(site.nodes))
        stages = suffixes.stages(site.nodes for site in sites)
        for number, (site, stage) in enumerate(zip(sites, stages, strict=True)):
            self.using.report(0.1 + 0.9 * number / len(sites), site.name)
            yield from site.rows(stage)

    def _found(self) -> Iterator[_Site]:
        index = Index(self.prepared.graph)
        wanted = self.options.techniques
        integers = (
            Integers.of(self.prepared, self.layers, self.feeds, self.using)
            if "static_quantization" in wanted
            else None
        )
        for layer in self.layers:
            rows = partial(self._of_layer, layer, integers)
            yield _Site(layer.name, _readers(index, layer.node.input[:1]), rows)
        if "channel_pruning" in wanted:
            cuts = Cuts(channels.find(self.prepared, self.feeds), self.layers)
            for group in cuts.looked.groups:
                tensors = sorted({one.tensor for one in group.contracted} & index.initializers.keys())
                rows = partial(self._of_group, cuts, group, tensors)
                yield _Site(group.name, _readers(index, tensors), rows)

    def _of_layer(self, layer: Layer, integers: Integers | None, stage: Stage) -> Iterator[Row]:
        if integers is not None and layer.name in integers.alone:
            scores = stage.scores(integers.write(layer.name, stage.suffix.model))
            yield Row(layer.name, "static_quantization", {"bits": 8}, integers.saved(layer), scores)
        weights: Mapping[Name, Iterator[Change]] = {
            "weight_quantization": changes.fewer_bits(layer, self.options.bits),
            "magnitude_pruning": changes.zeros(layer),
            "low_rank": changes.low_rank(layer),
        }
        wanted = (own for name, own in weights.items() if name in self.options.techniques)
        yield from self._fed(stage, layer.node.input[1:2], chain.from_iterable(wanted))

    def _of_group(self, cuts: Cuts, group: Group, tensors: Collection[str], stage: Stage) -> Iterator[Row]:
        yield from self._fed(stage, tensors, cuts.of(group))

    def _fed(self, stage: Stage, weights: Collection[str], wanted: Iterable[Change]) -> Iterator[Row]:
        """One session, whose other weights are constants: kernels may lay those out as they like."""
        session = None
        for change in wanted:
            if session is None:
                session = runtime.session(
                    overridable(stage.suffix.model, weights), threads=self.using.threads
                )
            scores = stage.fed(session, change.make())
            yield Row(change.layer, change.technique, change.setting, change.saved, scores)


def _readers(index: Index, tensors: Iterable[str]) -> frozenset[str]:
    return frozenset(node.name for name in tensors for node in index.consumers[name])
