"""What a model costs without running it."""

import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard
from onnx import helper

from compression import mapped
from compression.dataset import Array
from compression.errors import CompressionError
from compression.graph import liveness, macs, shapes, weights
from compression.measure.probe import Probe
from compression.model import Model

LEVEL, LEVEL_OF_LARGE = 19, 3
"""Of zstd: 4 and some 300 MB a second and thread. Files that are compared are packed alike."""
_PARALLEL_FROM = 32 << 20
_CHUNK = 8 << 20


class Size(NamedTuple):
    bytes: int
    bytes_zstd: int
    params: int
    nonzero_params: int
    macs: int | None
    peak_activation_bytes: int | None
    finite: bool
    """Whether all weights are."""


def measure(path: Path, model: Model, feeds: dict[str, Array], samples: int, level: int = LEVEL) -> Size:
    """MACs are those of one run with `feeds`, divided by the number of samples these hold."""
    graph = model.outline.graph
    known = shapes.infer(model.outline, {name: value.shape for name, value in feeds.items()})
    count, peak = macs.count(graph.node, known), liveness.peak(graph, known)
    if count is None or peak is None:
        known = {**known, **_observed(model, feeds)}
        count, peak = macs.count(graph.node, known), liveness.peak(graph, known)
    nonzero, finite = _values(model)
    return Size(
        bytes=path.stat().st_size,
        bytes_zstd=zstd_bytes(path, level),
        params=weights.params(graph),
        nonzero_params=nonzero,
        macs=None if count is None else count // samples,
        peak_activation_bytes=peak,
        finite=finite,
    )


def _observed(model: Model, feeds: dict[str, Array]) -> dict[str, shapes.Shape]:
    """Shapes that inference cannot find, because they depend on values, are seen in a run."""
    names = [name for node in model.outline.graph.node for name in node.output if name]
    try:
        values = Probe(model, names).values(feeds)
        return {
            name: _shape(value) for name, value in zip(names, values, strict=True) if hasattr(value, "dtype")
        }
    except CompressionError:
        return {}


def _shape(value: Array) -> shapes.Shape:
    return shapes.Shape(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def zstd_bytes(path: Path, level: int = LEVEL) -> int:
    """Streamed, nothing is kept."""
    size = path.stat().st_size
    threads = -1 if size >= _PARALLEL_FROM and level == LEVEL else 0
    compressor = zstandard.ZstdCompressor(level=level, threads=threads).compressobj(size=size)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        total = sum(len(compressor.compress(data[at : at + _CHUNK])) for at in range(0, size, _CHUNK))
    return total + len(compressor.flush())


def _values(model: Model) -> tuple[int, bool]:
    nonzero, finite = 0, True
    for tensor in weights.weights(model.outline.graph):
        array = mapped.array(tensor)
        nonzero += int(np.count_nonzero(array))
        if array.dtype.kind == "f":
            finite = finite and bool(np.isfinite(array).all())
    return nonzero, finite
