"""Streaming calibration: statistics of tensors over a data set, in memory that does not grow with it.

The reductions are nodes of the graph that is run: a tensor is freed inside the runtime as soon as it was
looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from compression import mapped, runtime
from compression.dataset import Split
from compression.errors import CompressionError
from compression.graph import inspection, serialization, shapes, tensors
from compression.graph.preparation import REDUCE_AXES_AS_INPUT
from compression.graph.shapes import Shape
from compression.inspection import TensorSpec
from compression.kernels.histogram import Histogram

COUNTED, SAMPLE = 1 << 18, 4096
"""Values of a tensor that are counted in its histogram, and of a sample; extremes and means are over all."""
BATCH_BYTES = 48 << 20
"""Of the observed tensors of a run together."""
LARGEST_BATCH = 16
ADDED = 4
"""Samples, or one run, whose statistics are added at once."""
STRIDES = (1, 11, 23, 47, 97, 193, 389, 769, 1543, 3079, 6151, 12289)
"""Between counted values: primes that divide no usual width, so that they walk over rows and channels."""
FLAT = "__flat"
REDUCTIONS = {"low": "ReduceMin", "high": "ReduceMax", "mean": "ReduceMean"}

MASKED = 1e30
"""Nothing that a network means to compute is larger."""
OBSERVED = (*REDUCTIONS, "sample")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Machine:
    """Where to run."""

    scratch: Path
    threads: int


@dataclass
class Statistics:
    """Of one tensor: its histogram; by channel (axis 1 of images, else the last) the largest magnitude and
    the mean.
    """

    histogram: Histogram = field(default_factory=Histogram)
    bound: Floats | None = None
    total: Floats | None = None
    samples: int = 0

    def update(self, seen: Mapping[str, Sequence[Floats]], samples: Floats) -> None:
        """What some runs gave, and how many samples each had."""
        low, high, mean = (np.stack([np.atleast_1d(one) for one in seen[name]]) for name in REDUCTIONS)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise CompressionError(
                "E_NUMERIC", "the model computes NaN or infinity on the calibration samples"
            )
        self.histogram.update(np.concatenate(seen["sample"]), float(low.min()), float(high.max()))
        bound, total = np.maximum(-low, high).max(0), samples @ mean
        if self.bound is None or self.total is None:
            self.bound, self.total, self.samples = bound, total, int(samples.sum())
        elif self.bound.shape == bound.shape:
            self.bound, self.total = np.maximum(self.bound, bound), self.total + total
            self.samples += int(samples.sum())

    @property
    def mean(self) -> Floats | None:
        """None where the sum leaves the range of floats, as that of a mask does."""
        if self.total is None or not np.isfinite(self.total).all():
            return None
        return self.total / np.float32(self.samples)

    @property
    def is_masked(self) -> bool:
        """Whether some values are no magnitudes but stand for infinity: no grid holds the others too."""
        return max(-self.histogram.minimum, self.histogram.maximum) > MASKED


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], split: Split, samples: int, using: Machine
) -> dict[str, Statistics]:
    """Statistics of the named tensors over at most `samples` samples.

    Errors: CompressionError E_NUMERIC, E_MODEL_RUN.
    """
    if not names:
        return {}
    inputs = tensors.inputs(model.graph)
    single = next(split.batches(inputs, 1))
    known = shapes.infer(model, {name: array.shape for name, array in single.items()})
    needed = sum(known[name].elements * 4 for name in names if name in known)
    size = split.batch_size(inputs, int(np.clip(BATCH_BYTES // max(needed, 1), 1, LARGEST_BATCH)))
    samples = min(samples, split.n)
    opened = session(model, _added(model, names, known, int(np.clip(COUNTED // samples, 1, SAMPLE))), using)
    outputs = [_output(name, what) for name in names for what in OBSERVED]
    found = {name: Statistics() for name in names}
    runs = islice(batches(split, inputs, size), -(-samples // size))
    while some := list(islice(runs, max(1, ADDED // size))):
        sizes = np.array([len(next(iter(feeds.values()))) for feeds in some], np.float32)
        results = [runtime.run(opened, feeds, outputs) for feeds in some]
        for name, statistics in found.items():
            seen = {what: [values[_output(name, what)] for values in results] for what in OBSERVED}
            statistics.update(seen, sizes)
    return found


def batches(split: Split, inputs: Sequence[TensorSpec], size: int) -> Iterator[Mapping[str, runtime.Array]]:
    """Feeds; a last one too short for a fixed batch is filled."""
    fixed = {spec.name for spec in inputs if spec.shape[:1] == (size,)}
    for batch in split.batches(inputs, size):
        yield {name: _filled(value, size) if name in fixed else value for name, value in batch.items()}


def _filled(batch: runtime.Array, size: int) -> runtime.Array:
    """A fixed batch for which too few samples are left starts over."""
    return np.resize(batch, (size, *batch.shape[1:]))


def _output(name: str, what: str) -> str:
    return f"{name}__{what}"


def session(model: onnx.ModelProto, added: onnx.ModelProto, using: Machine) -> ort.InferenceSession:
    """What is added is written behind the model: protobuf merges the two, and no weight is copied."""
    if mapped.size(model):
        opened = onnx.ModelProto()
        opened.CopyFrom(model)
        opened.MergeFrom(added)
        return runtime.session(opened, threads=using.threads)
    path = using.scratch / "observed.onnx"
    serialization.write(model, path)
    with path.open("ab") as file:
        file.write(added.SerializePartialToString())
    made = runtime.session(path, threads=using.threads)
    path.unlink()
    return made


def _added(
    model: onnx.ModelProto, names: Sequence[str], known: Mapping[str, Shape], counted: int
) -> onnx.ModelProto:
    """Nodes and outputs that give each named tensor's extremes and mean by channel, and about `counted` of
    its values a sample.
    """
    added = onnx.ModelProto()
    graph = added.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), FLAT))
    as_input = inspection.opset(model) >= REDUCE_AXES_AS_INPUT
    ranks = _ranks(model.graph)
    for name in names:
        graph.node.extend(_reductions(graph, name, ranks.get(name), as_input=as_input))
        graph.node.extend(_sampling(graph, name, known[name].elements // counted if name in known else 1))
        for what in OBSERVED:
            graph.output.append(helper.make_tensor_value_info(_output(name, what), TensorProto.FLOAT, None))
    return added


def _ranks(graph: onnx.GraphProto) -> dict[str, int]:
    values = (*graph.value_info, *graph.input, *graph.output)
    typed = {value.name: value.type.tensor_type for value in values}
    return {name: len(kind.shape.dim) for name, kind in typed.items() if kind.HasField("shape")}


def _reductions(
    graph: onnx.GraphProto, name: str, rank: int | None, *, as_input: bool
) -> Iterator[onnx.NodeProto]:
    """Over all axes where the rank is unknown."""
    axes = [0, 2, 3] if rank == 4 else list(range((rank or 1) - 1)) or [0]
    extra: dict[str, Any] = {}
    inputs = [name]
    if rank is not None and as_input:
        inputs.append(f"{name}__reduced")
        graph.initializer.append(numpy_helper.from_array(np.array(axes), inputs[1]))
    elif rank is not None:
        extra["axes"] = axes
    for what, operator in REDUCTIONS.items():
        yield helper.make_node(operator, inputs, [_output(name, what)], keepdims=0, **extra)


def _sampling(graph: onnx.GraphProto, name: str, wanted: int) -> Iterator[onnx.NodeProto]:
    step = max(stride for stride in STRIDES if stride <= max(wanted, 1))
    slots = {"starts": 0, "ends": np.iinfo(np.int64).max, "axes": 0, "steps": step}
    for slot, value in slots.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{name}__{slot}"))
    yield helper.make_node("Reshape", [name, FLAT], [f"{name}__flat"])
    names = [f"{name}__{slot}" for slot in slots]
    yield helper.make_node("Slice", [f"{name}__flat", *names], [_output(name, "sample")])
