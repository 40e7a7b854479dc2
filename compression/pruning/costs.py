"""What a cut is to save: multiply-accumulates, parameters, or time as measured here."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from compression import runtime
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph import channels, macs, profile
from compression.graph.channels import Channels, Kept
from compression.graph.shapes import Shape

FEWEST, MOST = 9, 500
"""Pairs of runs."""
SECONDS = 0.5
"""After which no further pair is started."""
Target = Literal["macs", "params", "latency"]


class Costs:
    """Costs as shares of what the whole network costs; all for one sample, on one thread."""

    def __init__(
        self, target: Target, whole: Channels, feeds: Mapping[str, runtime.Array], scratch: Path
    ) -> None:
        """Errors: CompressionError `macs_unknown`."""
        self.target, self._whole, self._feeds, self._scratch = target, whole, feeds, scratch
        self._base = self._counted(whole, {}) if target != "latency" else 1.0

    def of(self, looked: Channels, kept: Kept) -> float:
        """Errors: CompressionError E_MODEL_RUN."""
        if self.target != "latency":
            return self._counted(looked, kept) / self._base
        return _ratio(self._whole.model, channels.cut(looked, kept), self._feeds)

    def units(self, looked: Channels) -> dict[str, float]:
        """What one unit of each group saves, in any scale. Time is told from a profile of the nodes."""
        if self.target == "latency":
            spent = _Spent(looked, self._feeds, self._scratch)
            count = spent.seconds
        else:

            def count(kept: Kept) -> float:
                return self._counted(looked, kept)

        whole = count({})
        saved = {g.name: whole - count({g.name: range(g.size - 1)}) for g in looked.groups if g.size > 1}
        least = max(saved.values(), default=1.0) * 1e-6
        return {group.name: max(saved.get(group.name, 0.0), least) for group in looked.groups}

    def _counted(self, looked: Channels, kept: Kept) -> float:
        count, params = channels.cost(looked, kept)
        if self.target == "params":
            return params
        if count is None:
            raise CompressionError(
                "macs_unknown",
                "the multiply-accumulates of this model cannot be told from its graph",
                ErrorKind.UNSUPPORTED,
                suggestions=[Suggestion("Prune by parameters", {"target": "params"})],
            )
        return count


def _ratio(whole: onnx.ModelProto, candidate: onnx.ModelProto, feeds: Mapping[str, runtime.Array]) -> float:
    """Of the time of one run on this thread, taken in turns. Time of the processor, not of the clock, and the
    faster runs: whoever else is at work here does not count.
    """
    sessions = runtime.session(whole), runtime.session(candidate)
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.thread_time() + SECONDS
    while len(taken[0]) < FEWEST or (len(taken[0]) < MOST and time.thread_time() < end):
        for session, times in zip(sessions, taken, strict=True):
            start = time.thread_time()
            runtime.run(session, feeds)
            times.append(time.thread_time() - start)
    before, after = (float(np.quantile(times, 0.25)) for times in taken)
    return after / before


class _Spent:
    """Seconds of a network's nodes, which shrink with their work."""

    def __init__(self, looked: Channels, feeds: Mapping[str, runtime.Array], scratch: Path) -> None:
        self._looked = looked
        named = onnx.ModelProto()
        named.CopyFrom(looked.model)
        for at, node in enumerate(named.graph.node):
            node.name = f"node_{at}"
        self._nodes = list(named.graph.node)
        self._seconds = profile.node_seconds(named, feeds, scratch)
        self._before = [self._work(node, looked.shapes) for node in self._nodes]

    def seconds(self, kept: Kept) -> float:
        after = channels.sizes(self._looked, channels.masks(self._looked, kept))
        return sum(
            self._seconds.get(node.name, 0.0) * self._work(node, after) / work
            for node, work in zip(self._nodes, self._before, strict=True)
            if work
        )

    def _work(self, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
        known = {name: Shape(0, shapes[name]) for name in (*node.input, *node.output) if name in shapes}
        products = macs.count([node], known)
        return products or sum(known[name].elements for name in node.output if name in known)
