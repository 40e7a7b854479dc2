"""Where a model's time goes: seconds of each node of the graph as it was before the runtime fused some of
them.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort

from compression import runtime
from compression.graph.index import Index

Statistic = Callable[[Sequence[float]], float]
RUNS = 7
FEWEST, MOST = 9, 51
"""Pairs of runs."""
SECONDS = 0.25
"""After which no further pair is started."""
BLOCK, MOST_RUNS = 1e-3, 100
"""Seconds that are timed at once, at least, where that takes no more runs than so many."""
CONVERSIONS = ("_QuantizeLinear", "_DequantizeLinear")
SUFFIXES = re.compile(r"(_token_\d+|_nchwc|_quant)+$")


def node_seconds(
    model: onnx.ModelProto,
    feeds: Mapping[str, runtime.Array],
    scratch: Path,
    *,
    runs: int = RUNS,
    statistic: Statistic = median,
) -> dict[str, float]:
    """Median, or another statistic, over runs on one thread. A fused kernel counts for the node that its name
    leads to: by the node's own name, or by the tensor it makes. Kernels that the runtime made up itself
    (layout changes) are left out.
    """
    session = runtime.session(model, profile=scratch / "profile")
    for _ in range(runs):
        runtime.run(session, feeds)
    path = Path(session.end_profiling())
    events = json.loads(path.read_text())
    path.unlink()
    return _by_node(events, model, statistic)


def _by_node(
    events: Sequence[Mapping[str, object]], model: onnx.ModelProto, statistic: Statistic
) -> dict[str, float]:
    producer = Index(model.graph).producer
    names = {node.name for node in model.graph.node}
    spent: dict[str, list[float]] = defaultdict(list)
    for event in events:
        kernel = str(event.get("name", ""))
        if event.get("cat") == "Node" and kernel.endswith("_kernel_time"):
            label = SUFFIXES.sub("", kernel.removesuffix("_kernel_time"))
            if label not in names and label in producer:
                label = producer[label].name
            if label in names or label.endswith(CONVERSIONS):
                spent[label].append(float(str(event["dur"])) * 1e-6)
    return {name: statistic(durations) for name, durations in spent.items()}


def paired_seconds(
    first: onnx.ModelProto, second: onnx.ModelProto, feeds: Mapping[str, runtime.Array]
) -> tuple[float, float]:
    """Time of one run of either model on one thread, taken in turns; short ones are timed several at once.
    The lower quartile, of short ones the least: whoever else is at work here does not count.
    """
    sessions = runtime.session(first), runtime.session(second)
    shortest = min(_seconds(session, feeds, 1) for session in sessions * 3)
    runs = int(np.clip(BLOCK / max(shortest, 1e-9), 1, MOST_RUNS))
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + SECONDS
    while len(taken[0]) < FEWEST or (len(taken[0]) < MOST and time.perf_counter() < end):
        for session, times in zip(sessions, taken, strict=True):
            times.append(_seconds(session, feeds, runs))
    before, after = (float(np.quantile(times, 0.25 if runs == 1 else 0.0)) for times in taken)
    return before, after


def _seconds(session: ort.InferenceSession, feeds: Mapping[str, runtime.Array], runs: int) -> float:
    """Of one run."""
    start = time.perf_counter()
    for _ in range(runs):
        runtime.run(session, feeds)
    return (time.perf_counter() - start) / runs
