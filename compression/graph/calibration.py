"""Streaming calibration: statistics of tensors over a data set, in memory that does not grow with it.

The reductions are nodes of the graph that is run: a tensor is freed inside the runtime as soon as it was
looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.dataset import Split
from compression.errors import CompressionError
from compression.graph import inspection, serialization, shapes, tensors
from compression.graph.preparation import REDUCE_AXES_AS_INPUT
from compression.graph.shapes import Shape
from compression.kernels.histogram import Histogram

SAMPLE = 4096
"""Values of a tensor and sample that are counted in its histogram; extremes are over all of them."""
BATCH_BYTES = 48 << 20
LARGEST_BATCH = 16
STRIDE = 61
"""No divisor of usual widths, so that the counted values walk over rows and channels."""
FLAT = "__flat"
REDUCTIONS = {"low": "ReduceMin", "high": "ReduceMax", "mean": "ReduceMean"}

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

    def update(self, seen: Mapping[str, Floats], samples: int) -> None:
        low, high, mean = (np.atleast_1d(seen[name]) for name in REDUCTIONS)
        if not (np.isfinite(low) & np.isfinite(high) & np.isfinite(mean)).all():
            raise CompressionError(
                "E_NUMERIC", "the model computes NaN or infinity on the calibration samples"
            )
        self.histogram.update(seen["sample"], float(low.min()), float(high.max()))
        bound, total = np.maximum(-low, high), mean * np.float32(samples)
        if self.bound is None or self.total is None:
            self.bound, self.total, self.samples = bound, total, samples
        elif self.bound.shape == bound.shape:
            self.bound, self.total = np.maximum(self.bound, bound), self.total + total
            self.samples += samples

    @property
    def mean(self) -> Floats | None:
        return None if self.total is None else self.total / np.float32(self.samples)


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
    found = {name: Statistics() for name in names}
    session = observing(model, names, known, using)
    outputs = [_output(name, what) for name in names for what in OBSERVED]
    for feeds in islice(_feeds(split, inputs, size), -(-min(samples, split.n) // size)):
        values = runtime.run(session, feeds, outputs)
        for name, statistics in found.items():
            seen = {what: values[_output(name, what)] for what in OBSERVED}
            statistics.update(seen, len(next(iter(feeds.values()))))
    return found


def _feeds(
    split: Split, inputs: Sequence[tensors.TensorSpec], size: int
) -> Iterator[Mapping[str, runtime.Array]]:
    fixed = {spec.name for spec in inputs if spec.shape[:1] == (size,)}
    for batch in split.batches(inputs, size):
        yield {name: _filled(value, size) if name in fixed else value for name, value in batch.items()}


def _filled(batch: runtime.Array, size: int) -> runtime.Array:
    """A fixed batch for which too few samples are left starts over."""
    return np.resize(batch, (size, *batch.shape[1:]))


def _output(name: str, what: str) -> str:
    return f"{name}__{what}"


def observing(
    model: onnx.ModelProto, names: Sequence[str], known: Mapping[str, Shape], using: Machine
) -> ort.InferenceSession:
    """A session that also gives, for each named tensor, its extremes and mean by channel and some of its
    values.

    What is added is written behind the model: protobuf merges the two, and nothing of the model is copied.
    """
    added = onnx.ModelProto()
    graph = added.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), FLAT))
    as_input = inspection.opset(model) >= REDUCE_AXES_AS_INPUT
    for name in names:
        shape = known.get(name, Shape(TensorProto.FLOAT, (1,) * 4))
        graph.node.extend(_reductions(graph, name, len(shape.dims), as_input=as_input))
        graph.node.extend(_sampling(graph, name, shape.elements // SAMPLE))
        for what in OBSERVED:
            graph.output.append(helper.make_tensor_value_info(_output(name, what), TensorProto.FLOAT, None))
    path = using.scratch / "observed.onnx"
    serialization.write(model, path)
    with path.open("ab") as file:
        file.write(added.SerializePartialToString())
    session = runtime.session(path, threads=using.threads)
    path.unlink()
    return session


def _reductions(graph: onnx.GraphProto, name: str, rank: int, *, as_input: bool) -> Iterator[onnx.NodeProto]:
    axes = [0, 2, 3] if rank == 4 else list(range(rank - 1)) or [0]
    if as_input:
        graph.initializer.append(numpy_helper.from_array(np.array(axes), f"{name}__reduced"))
    for what, operator in REDUCTIONS.items():
        if as_input:
            yield helper.make_node(operator, [name, f"{name}__reduced"], [_output(name, what)], keepdims=0)
        else:
            yield helper.make_node(operator, [name], [_output(name, what)], keepdims=0, axes=axes)


def _sampling(graph: onnx.GraphProto, name: str, stride: int) -> Iterator[onnx.NodeProto]:
    step = max(1, stride) if stride < STRIDE else stride // STRIDE * STRIDE + 1
    slots = {"starts": 0, "ends": np.iinfo(np.int64).max, "axes": 0, "steps": step}
    for slot, value in slots.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{name}__{slot}"))
    yield helper.make_node("Reshape", [name, FLAT], [f"{name}__flat"])
    yield helper.make_node(
        "Slice", [f"{name}__flat", *(f"{name}__{slot}" for slot in slots)], [_output(name, "sample")]
    )
