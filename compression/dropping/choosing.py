"""Which parts of a network go: one after the other, each time the one that is missed least."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from compression import samples
from compression.dataset import Split
from compression.dropping import parts
from compression.dropping.options import Options
from compression.dropping.outputs import Outputs
from compression.dropping.parts import Part
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph import macs, profile, tensors, weights
from compression.graph.channels import recording
from compression.graph.influence import influence
from compression.graph.shapes import Shape
from compression.measurement import WantedTask

_LEAST = 1e-6
"""Saved at least, where prices are per share saved."""


@dataclass(frozen=True)
class Dropped:
    """A network without some of its blocks."""

    model: onnx.ModelProto
    blocks: tuple[str, ...] = ()
    saved: float = 0.0
    """Share of the target, 0-1."""
    steps: tuple[tuple[str, float], ...] = ()
    """Parts in the order in which they went, each with what the criterion said of it."""


class Dropper:
    """Of one network."""

    def __init__(
        self,
        model: onnx.ModelProto,
        options: Options,
        split: Split,
        threads: int,
        task: WantedTask = "auto",
    ) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        self._start, self._options, self._split, self._threads = model, options, split, threads
        self._task = task
        self._inputs = tensors.inputs(model.graph)
        self._feeds = next(samples.first(split, self._inputs, 1))
        self.shapes = recording.shapes(model, self._feeds)
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self._known = {
            name: Shape(kinds.get(name, onnx.TensorProto.FLOAT), dims) for name, dims in self.shapes.items()
        }

    def counted(self, model: onnx.ModelProto) -> tuple[int | None, int]:
        """Multiply-accumulates of one sample of the data, and parameters; no shape changes with what is
        dropped.
        """
        return macs.count(model.graph.node, self._known), weights.params(model.graph)

    def given(self, names: Sequence[str]) -> Dropped:
        """Without these blocks. Errors: CompressionError `unknown_block`."""
        model = self._start
        for name in names:
            own = [part for part in parts.find(model.graph, self.shapes, "block") if part.name == name]
            if not own:
                raise CompressionError("unknown_block", f"the model has no residual block {name!r}")
            model = parts.without(model, own[0])
        return Dropped(model, tuple(names))

    def chosen(self) -> Dropped:
        """Errors: CompressionError `nothing_to_drop`, `target_unreachable`, `macs_unknown`."""
        now = Dropped(self._start)
        most = self._options.count
        while len(now.steps) < most if most is not None else now.saved < self._options.ratio:
            left = parts.droppable(now.model.graph, self.shapes, self._options)
            if not left:
                raise self._exhausted(now)
            now = self._next(now, left)
        return now

    def _next(self, now: Dropped, left: Sequence[Part]) -> Dropped:
        prices = self._prices(now.model, left)
        best = min(left, key=lambda part: prices[part.name])
        model = parts.without(now.model, best)
        saved = 0.0 if self._options.count is not None else self._saved(model)
        names = (*now.blocks, *(block.name for block in reversed(best.blocks)))
        return Dropped(model, names, saved, (*now.steps, (best.name, prices[best.name])))

    def _prices(self, model: onnx.ModelProto, left: Sequence[Part]) -> dict[str, float]:
        """What it costs to be without each part, by the criterion."""
        if self._options.criterion == "influence":
            looked = samples.first(self._split, self._inputs, self._options.samples)
            return influence(model, {part.name: part.source for part in left}, looked)
        return {part.name: self._price(parts.without(model, part)) for part in left}

    def _price(self, model: onnx.ModelProto) -> float:
        """How far its outputs are, for what it saves, where that is what counts."""
        distance = self._outputs.distance(model)
        return distance if self._options.count is not None else distance / max(self._saved(model), _LEAST)

    @cached_property
    def _outputs(self) -> Outputs:
        samples = self._options.samples
        return Outputs(self._start, self._inputs, self._split, samples, self._threads, self._task)

    def _saved(self, model: onnx.ModelProto) -> float:
        """Share of the target. Errors: CompressionError `macs_unknown`."""
        if self._options.target == "latency":
            before, after = profile.paired_seconds(self._start, model, self._feeds)
            return 1 - after / before
        which = 0 if self._options.target == "macs" else 1
        whole, rest = self.counted(self._start)[which], self.counted(model)[which]
        if not whole or rest is None:
            raise CompressionError(
                "macs_unknown",
                "the multiply-accumulates of this model cannot be told from its graph",
                ErrorKind.UNSUPPORTED,
                suggestions=[Suggestion("Drop by parameters", {"target": "params"})],
            )
        return 1 - rest / whole

    def _exhausted(self, now: Dropped) -> CompressionError:
        if not now.steps:
            return CompressionError(
                "nothing_to_drop",
                "the model has no residual block that may go: blocks whose input and output have the same "
                "shape, in between those to be kept (keep_first, keep_last, exclude)",
                ErrorKind.UNSUPPORTED,
            )
        if self._options.count is not None:
            most = len(now.steps)
            return CompressionError(
                "target_unreachable",
                f"the model has {most} parts that can be dropped, not {self._options.count}",
                suggestions=[Suggestion(f"Drop {most}", {"count": most})],
            )
        ratio = float(np.floor(now.saved * 100) / 100)
        return CompressionError(
            "target_unreachable",
            f"without any part that may go {now.saved:.0%} of the {self._options.target} are saved, not "
            f"{self._options.ratio:.0%}",
            suggestions=[Suggestion(f"Remove {ratio:.0%}", {"ratio": ratio})],
        )
