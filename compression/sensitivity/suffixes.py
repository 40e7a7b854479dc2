"""What of a network follows a change: only that is run again, on activations that the unchanged rest made
once.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import onnx
import onnxruntime as ort

from compression import runtime
from compression.dataset import Array
from compression.graph import shapes, walk
from compression.graph.index import Index
from compression.graph.tensors import stored_bytes
from compression.graph.upstream import upstream
from compression.sensitivity.evaluation import Evaluator, Scores

CACHED = 256 << 20
"""Bytes of activations that are kept at once. A change that needs more of them runs the whole network."""


class Suffix(NamedTuple):
    model: onnx.ModelProto
    """Makes those outputs of the network that the change reaches."""
    reads: tuple[str, ...]
    """Activations, and inputs of the network."""


@dataclass(frozen=True)
class Stage:
    """A suffix, and what it reads of each batch."""

    suffix: Suffix
    evaluator: Evaluator
    activations: Sequence[Mapping[str, Array]]
    threads: int

    def scores(self, changed: onnx.ModelProto) -> Scores:
        """Of the network with another suffix. Errors: CompressionError E_MODEL_RUN."""
        return self.fed(runtime.session(changed, threads=self.threads), {})

    def fed(self, session: ort.InferenceSession, values: Mapping[str, Array]) -> Scores:
        """Of the network with a suffix that is fed other weights. Errors: CompressionError E_MODEL_RUN."""

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            return runtime.run(session, {name: feeds[name] for name in self.suffix.reads} | dict(values))

        return self.evaluator.scores(run, self.activations)


class Suffixes:
    """Of a network whose nodes are in order, and whose tensors have types."""

    def __init__(
        self, prepared: onnx.ModelProto, evaluator: Evaluator, feeds: Mapping[str, Array], threads: int
    ) -> None:
        """`feeds` are as many samples as the network's least batch has."""
        self._prepared, self._index = prepared, Index(prepared.graph)
        self._evaluator, self._threads = evaluator, threads
        known = shapes.infer(prepared, {name: value.shape for name, value in feeds.items()})
        batches = evaluator.samples / evaluator.split.batch_size(evaluator.model.inputs, 1)
        self._sizes = {name: batches * stored_bytes(*shape) for name, shape in known.items()}
        graph = prepared.graph
        self._typed = {value.name: value for value in (*graph.input, *graph.value_info)}
        self._inputs = tuple(value.name for value in graph.input)

    def first(self, nodes: Collection[str]) -> int:
        """Place of the first of the named nodes in the graph."""
        return min(at for at, node in enumerate(self._prepared.graph.node) if node.name in nodes)

    def stages(self, changed: Iterable[Collection[str]]) -> Iterator[Stage]:
        """For each set of nodes the suffix that it begins. Activations are made once for all sets in a row
        that need no more than `CACHED` together, and dropped then.

        Errors: CompressionError E_MODEL_RUN.
        """
        together: list[Suffix] = []
        for suffix in map(self._suffix, changed):
            if together and self._bytes([*together, suffix]) > CACHED:
                yield from self._staged(together)
                together = []
            together.append(suffix)
        yield from self._staged(together)

    def _suffix(self, nodes: Collection[str]) -> Suffix:
        """Of what the named nodes make; all of the network where activations are too many, or unknown."""
        found = self._following(nodes)
        made = {name for node in found for name in node.output}
        reads = {name for node in found for name in walk.reads(node)} - made - self._index.initializers.keys()
        suffix = Suffix(self._cut(found, made, sorted(reads)), tuple(sorted(reads)))
        if reads <= self._typed.keys() and self._bytes([suffix]) <= CACHED:
            return suffix
        return Suffix(self._prepared, self._inputs)

    def _following(self, nodes: Collection[str]) -> list[onnx.NodeProto]:
        reached: set[str] = set()
        found = []
        for node in self._prepared.graph.node:
            if node.name in nodes or not reached.isdisjoint(walk.reads(node)):
                found.append(node)
                reached |= set(node.output)
        return found

    def _cut(self, nodes: Sequence[onnx.NodeProto], made: set[str], reads: Sequence[str]) -> onnx.ModelProto:
        source = self._prepared
        part = onnx.ModelProto(
            ir_version=source.ir_version, opset_import=source.opset_import, functions=source.functions
        )
        needed = {name for node in nodes for name in walk.reads(node)}
        part.graph.name = source.graph.name
        part.graph.node.extend(nodes)
        part.graph.input.extend(self._typed[name] for name in reads if name in self._typed)
        part.graph.output.extend(value for value in source.graph.output if value.name in made)
        part.graph.value_info.extend(value for value in source.graph.value_info if value.name in made)
        part.graph.initializer.extend(one for one in source.graph.initializer if one.name in needed)
        return part

    def _bytes(self, suffixes: Iterable[Suffix]) -> float:
        return sum(self._sizes.get(name, math.inf) for name in self._activations(suffixes))

    def _activations(self, suffixes: Iterable[Suffix]) -> list[str]:
        return sorted({name for suffix in suffixes for name in suffix.reads} - set(self._inputs))

    def _staged(self, together: Sequence[Suffix]) -> Iterator[Stage]:
        names = self._activations(together)
        made: list[Mapping[str, Array]] = [{} for _ in self._evaluator.reference]
        if names:
            session = runtime.session(upstream(self._prepared, names), threads=self._threads)
            made = [runtime.run(session, feeds, names) for feeds, _ in self._evaluator.batches()]
        for suffix in together:
            yield Stage(suffix, self._evaluator, made, self._threads)
