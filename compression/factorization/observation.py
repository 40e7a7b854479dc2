"""What layers read, over calibration samples: moments of the values that one output position sees, padding of
texts left out. Streamed: no activation is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from compression import padding, runtime
from compression.dataset import Split
from compression.factorization.layers import Layer, Sizes, Windows
from compression.graph import tensors
from compression.measurement import WantedTask

Floats = npt.NDArray[np.float64]
WIDEST = 4608
"""Values seen at once (512 channels, 3 x 3) up to which a layer is looked at: a moment is their square."""
AT_ONCE = 512 << 20
"""Bytes of moments that are summed in one pass over the samples."""
BATCH, BATCH_BYTES = 16, 64 << 20
"""Of samples, and of the tensors of a run."""
FEWEST, PER_VALUE = 1 << 14, 8
"""Positions that a moment is made of: at least, and for each value seen."""


class Place(NamedTuple):
    """What layers with one moment have in common."""

    source: str
    windows: Windows
    inputs: int
    axis: int
    """Of the inputs: 1 of images, -1 of rows."""

    @property
    def values(self) -> int:
        """Seen at once."""
        return self.inputs * self.windows.points


def place(layer: Layer) -> Place:
    return Place(layer.source, layer.windows, layer.inputs, 1 if layer.convolves else -1)


@dataclass(frozen=True)
class Moments:
    """Of [inputs, *kernel] as one vector of `n` values; on disk, as there may be many."""

    mean: Floats
    path: Path

    @property
    def second(self) -> Floats:
        """E[x x'], [n, n]."""
        return np.load(self.path)  # type: ignore[no-any-return]

    @property
    def covariance(self) -> Floats:
        return self.second - np.outer(self.mean, self.mean)


@dataclass(frozen=True)
class Samples:
    split: Split
    most: int
    threads: int
    scratch: Path
    seed: int
    task: WantedTask = "auto"


def observe(model: onnx.ModelProto, places: Iterable[Place], samples: Samples) -> dict[Place, Moments]:
    """Of the places that are not too wide. Takes a pass over the samples for each `AT_ONCE` bytes.

    Errors: CompressionError E_MODEL_RUN.
    """
    found: dict[Place, Moments] = {}
    wanted = [one for one in dict.fromkeys(places) if one.values <= WIDEST]
    for part in _passes(wanted):
        sums = _summed(model, part, samples)
        for one, total in sums.items():
            path = samples.scratch / f"moments-{len(found)}.npy"
            np.save(path, total.products / total.count)
            found[one] = Moments(total.total / total.count, path)
    return found


def _passes(places: Sequence[Place]) -> Iterator[list[Place]]:
    part: list[Place] = []
    size = 0
    for one in places:
        own = one.values**2 * 8
        if part and size + own > AT_ONCE:
            yield part
            part, size = [], 0
        part.append(one)
        size += own
    if part:
        yield part


class _Sums:
    def __init__(self, values: int) -> None:
        self.count = 0
        self.total, self.products = np.zeros(values), np.zeros((values, values))

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """[positions, values]."""
        self.count += len(rows)
        self.total += rows.sum(0, dtype=np.float64)
        self.products += rows.T @ rows


def _summed(model: onnx.ModelProto, places: Sequence[Place], samples: Samples) -> dict[Place, _Sums]:
    sources = list(dict.fromkeys(one.source for one in places))
    inputs = tensors.inputs(model.graph)
    session = runtime.session(_opened(model, sources), threads=samples.threads)
    single = next(runtime.run_split(session, samples.split, inputs, size=1))
    needed = sum(single[name].nbytes for name in sources if name in single)
    size = samples.split.batch_size(inputs, int(np.clip(BATCH_BYTES // max(needed, 1), 1, BATCH)))
    runs = -(-min(samples.most, samples.split.n) // size)
    random = np.random.default_rng(samples.seed)
    sums = {one: _Sums(one.values) for one in places}
    feeds = samples.split.batches(inputs, size)
    results = runtime.run_split(session, samples.split, inputs, size=size)
    for given, made in islice(zip(feeds, results, strict=True), runs):
        values = {**given, **made}
        for one, total in sums.items():
            share = -(-max(FEWEST, PER_VALUE * one.values) // runs)
            read = values[one.source]
            total.add(seen(padding.rows(read, given) if one.axis == -1 else read, one, share, random))
    return sums


def _opened(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """With these outputs alone; the graph's inputs need no opening."""
    fed = {value.name for value in model.graph.input}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.ClearField("output")
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in fed)
    if not opened.graph.output:  # all of them are fed: a session needs something to give
        opened.graph.output.extend(model.graph.output)
    return opened


def seen(values: runtime.Array, at: Place, most: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """What positions of a batch see, [positions, inputs * points]: at most so many, drawn."""
    if at.axis == -1:
        rows = values.reshape(-1, values.shape[-1])
        return np.asarray(rows[_drawn(len(rows), most, random)], np.float32)
    windows = at.windows
    pads = ((0, 0), (0, 0), *zip(windows.before, windows.after, strict=True))
    padded = np.pad(values, pads)
    made = tuple(
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(
            padded.shape[2:], windows.kernel, windows.dilations, windows.strides, strict=True
        )
    )
    chosen = _drawn(len(values) * int(np.prod(made)), most, random)
    sample, *corner = np.unravel_index(chosen, (len(values), *made))
    corner = [at * stride for at, stride in zip(corner, windows.strides, strict=True)]
    channels_last = np.moveaxis(padded, 1, -1)
    points = [
        channels_last[(sample, *_moved(corner, offset, windows.dilations))]
        for offset in np.ndindex(*windows.kernel)
    ]
    return np.stack(points, axis=2).reshape(len(chosen), -1).astype(np.float32, copy=False)


def _moved(
    corner: Sequence[npt.NDArray[np.intp]], offset: Sizes, dilations: Sizes
) -> list[npt.NDArray[np.intp]]:
    return [at + step * width for at, step, width in zip(corner, offset, dilations, strict=True)]


def _drawn(count: int, most: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    if count <= most:
        return np.arange(count)
    return np.sort(random.choice(count, most, replace=False))
