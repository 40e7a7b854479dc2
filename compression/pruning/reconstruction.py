"""Reconstruction: layer by layer, the weights that read what was cut are fitted anew by least squares, so
that the layer gives of the smaller network's activations what it gave of the original's.

After He et al. 2017 (arXiv:1707.06168, section 3.2) and ThiNet (Luo et al. 2017, arXiv:1707.06342), in closed
form: each original channel is told from the channels there are now, drift of earlier layers included.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Samples:
    split: Split
    most: int
    threads: int


def reconstructed(looked: Channels, kept: Kept, samples: Samples) -> onnx.ModelProto:
    """The cut network with corrected weights and biases.

    Errors: CompressionError E_MODEL_RUN, `unknown_group`, `empty_group`.
    """
    cut = channels.cut(looked, kept)
    masks = channels.masks(looked, kept)
    affected = [reader for reader in readers(looked) if reader.weight in masks]
    for level in _levels(looked.model.graph, affected):
        fits = _observed(looked, cut, level, samples)
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


def _observed(
    looked: Channels, cut: onnx.ModelProto, level: Sequence[Reader], samples: Samples
) -> Mapping[str, _Fit]:
    """By weight."""
    sources = {reader.source: reader.source_axis for reader in level}
    positions = min(
        int(np.prod(looked.shapes[name])) // looked.shapes[name][axis] for name, axis in sources.items()
    )
    wanted = int(np.clip(-(-ENOUGH // positions), FEWEST, max(samples.most, FEWEST)))
    sessions = [
        runtime.session(upstream(model, sources), threads=samples.threads) for model in (looked.model, cut)
    ]
    inputs = tensors.inputs(looked.model.graph)
    size = samples.split.batch_size(inputs, BATCH)
    both = (
        runtime.run_split(one, samples.split, inputs, size=BATCH, outputs=list(sources)) for one in sessions
    )
    fits = {reader.weight: _Fit() for reader in level}
    random = np.random.default_rng(0)
    for _, original, smaller in zip(range(0, wanted, size), *both, strict=False):
        for reader in level:
            x, y = (_rows(part[reader.source], reader.source_axis) for part in (original, smaller))
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
