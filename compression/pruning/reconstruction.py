"""Reconstruction: layer by layer, the weights that read what was cut are fitted anew by least squares, so
that the layer gives of the smaller network's activations what it gave of the original's.

After He et al. 2017 (arXiv:1707.06168, section 3.2) and ThiNet (Luo et al. 2017, arXiv:1707.06342), in closed
form: each original channel is told from the channels there are now, drift of earlier layers included.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx

from compression import runtime
from compression.dataset import Split
from compression.graph import channels, tensors, walk
from compression.graph.channels import Channels, Kept
from compression.graph.index import Index
from compression.graph.upstream import upstream
from compression.kernels.redundancy import regularised
from compression.pruning.observation import BATCH, POSITIONS, WIDEST, Floats, Reader, readers

ENOUGH = 1 << 16
"""Positions that a fit is made of; at least `FEWEST` samples."""
FEWEST = 64
_ROOM = 512 << 20
"""Bytes of activations that are kept."""


@dataclass(frozen=True)
class Samples:
    split: Split
    most: int
    threads: int


class Activations:
    """Those of a network that is cut again and again, computed once while there is room for them."""

    def __init__(self, looked: Channels, samples: Samples) -> None:
        self.looked, self.samples = looked, samples
        self._room = _ROOM
        self._known: dict[tuple[str, ...], list[dict[str, runtime.Array]]] = {}

    def batches(self, sources: Collection[str], count: int) -> Iterable[dict[str, runtime.Array]]:
        """At least `count` batches. Errors: CompressionError E_MODEL_RUN."""
        names = tuple(sorted(sources))
        if len(self._known.get(names, ())) >= count:
            return self._known[names]
        computed = run(self.looked.model, names, self.samples)
        shapes = (self.looked.shapes[name] for name in names)
        size = sum(4 * int(np.prod(shape)) for shape in shapes) * BATCH * count
        if size > self._room:
            return computed
        self._room -= size
        self._known[names] = list(islice(computed, count))
        return self._known[names]


def run(
    model: onnx.ModelProto, names: Collection[str], samples: Samples
) -> Iterator[dict[str, runtime.Array]]:
    """Tensors of a network, batch by batch. Errors: CompressionError E_MODEL_RUN."""
    session = runtime.session(upstream(model, names), threads=samples.threads)
    inputs = tensors.inputs(model.graph)
    yield from runtime.run_split(session, samples.split, inputs, size=BATCH, outputs=list(names))


def reconstructed(
    looked: Channels, kept: Kept, samples: Samples, original: Activations | None = None
) -> onnx.ModelProto:
    """The cut network with corrected weights and biases. `original`: of the network that is cut, where it is
    cut several times.

    Errors: CompressionError E_MODEL_RUN, `unknown_group`, `empty_group`.
    """
    cut = channels.cut(looked, kept)
    masks = channels.masks(looked, kept)
    original = original or Activations(looked, samples)
    affected = [reader for reader in readers(looked) if reader.weight in masks]
    for level in _levels(looked.model.graph, affected):
        fits = _observed(original, cut, level)
        for reader in level:
            if fits[reader.weight].sound:
                _correct(looked, cut, reader, masks[reader.weight], fits[reader.weight])
    return cut


def _levels(graph: onnx.GraphProto, affected: Sequence[Reader]) -> list[list[Reader]]:
    """Readers that do not depend on each other, those that others depend on first."""
    by_output = {reader.node.output[0]: reader for reader in affected}
    depth: dict[str, int] = defaultdict(int)
    levels: dict[int, list[Reader]] = defaultdict(list)
    for node in graph.node:
        below = max((depth[name] for name in walk.reads(node)), default=0)
        reader = by_output.get(node.output[0])
        if reader is not None:
            levels[below].append(reader)
        depth.update(dict.fromkeys(node.output, below + (reader is not None)))
    return [levels[number] for number in sorted(levels)]


@dataclass
class _Fit:
    """Moments of a layer's input in the original (x) and in the cut network (y)."""

    count: int = 0
    x: Floats = field(default_factory=lambda: np.zeros(()))
    y: Floats = field(default_factory=lambda: np.zeros(()))
    xy: Floats = field(default_factory=lambda: np.zeros(()))
    yy: Floats = field(default_factory=lambda: np.zeros(()))

    @property
    def sound(self) -> bool:
        return self.count > 0

    def add(self, x: Floats, y: Floats) -> None:
        """[positions, slices] each."""
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.xy, self.yy = self.xy + x.T @ y, self.yy + y.T @ y

    def told(self, mask: npt.NDArray[np.bool_], *, shifted: bool) -> tuple[Floats, Floats]:
        """(A, b) of x ~ y A + b: [slices of y, of x] and [slices of x]; b is zero unless it may shift."""
        x, y = (self.x / self.count, self.y / self.count) if shifted else (0 * self.x, 0 * self.y)
        xy, yy = self.xy / self.count - np.outer(x, y), self.yy / self.count - np.outer(y, y)
        same = np.eye(len(mask))[mask]
        told = same + np.linalg.solve(regularised(yy), xy.T - yy @ same)
        return told, x - y @ told


def _observed(original: Activations, cut: onnx.ModelProto, level: Sequence[Reader]) -> Mapping[str, _Fit]:
    """By weight."""
    looked, samples = original.looked, original.samples
    sources = {reader.source: reader.source_axis for reader in level}
    positions = min(
        int(np.prod(looked.shapes[name])) // looked.shapes[name][axis] for name, axis in sources.items()
    )
    wanted = int(np.clip(-(-ENOUGH // positions), FEWEST, max(samples.most, FEWEST)))
    size = samples.split.batch_size(tensors.inputs(looked.model.graph), BATCH)
    count = -(-min(wanted, samples.split.n) // size)
    both = original.batches(sources, count), run(cut, sources, samples)
    fits = {reader.weight: _Fit() for reader in level}
    random = np.random.default_rng(0)
    for _, whole, smaller in zip(range(count), *both, strict=False):
        for reader in level:
            x, y = (_rows(part[reader.source], reader.source_axis) for part in (whole, smaller))
            if x.shape[1] <= WIDEST:
                some = random.choice(len(x), POSITIONS, replace=False) if len(x) > POSITIONS else slice(None)
                fits[reader.weight].add(x[some].astype(np.float64), y[some].astype(np.float64))
    return fits


def _rows(values: runtime.Array, axis: int) -> runtime.Array:
    moved = np.moveaxis(values, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def _correct(
    looked: Channels,
    cut: onnx.ModelProto,
    reader: Reader,
    axes: Mapping[int, npt.NDArray[np.bool_]],
    fit: _Fit,
) -> None:
    before, after = Index(looked.model.graph), Index(cut.graph)
    weight = onnx.numpy_helper.to_array(before.initializers[reader.weight])
    bias = _bias(after, reader)
    told, shift = fit.told(axes.get(reader.weight_axis, np.ones(len(fit.x), bool)), shifted=bool(bias))
    rows = weight.astype(np.float64)
    for axis, mask in axes.items():
        rows = rows if axis == reader.weight_axis else np.compress(mask, rows, axis)
    rows = np.moveaxis(rows, reader.weight_axis, 0)
    fitted = np.moveaxis(np.tensordot(told, rows, 1), 0, reader.weight_axis)
    after.replace(reader.weight, fitted.astype(weight.dtype))
    if bias:
        own = onnx.numpy_helper.to_array(after.initializers[bias])
        moved = np.tensordot(shift, rows, 1)
        moved = moved.sum(tuple(range(1, moved.ndim)))
        after.replace(bias, (own + moved).astype(own.dtype))


def _bias(index: Index, reader: Reader) -> str:
    """Of a Conv or Gemm, if it is the layer's own and added as it is."""
    node = reader.node
    plain = walk.attribute(node, "alpha", 1.0) == walk.attribute(node, "beta", 1.0) == 1
    if node.op_type not in {"Conv", "Gemm"} or len(node.input) < 3 or not plain:
        return ""
    name = node.input[2]
    return name if name in index.initializers and index.only_consumer(name) is not None else ""
