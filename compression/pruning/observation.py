"""What layers read, over calibration samples: the moments that criteria and reconstruction need."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compression import runtime
from compression.dataset import Split
from compression.graph import channels, tensors, walk
from compression.graph.index import Index

Floats = npt.NDArray[np.float64]
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
BATCH = 32
POSITIONS = 4096
"""Of images or sequences: at most so many of a batch enter the second moment."""
WIDEST = 2048
"""Axes with more slices get no second moment."""


@dataclass(frozen=True)
class Reader:
    """A layer that sums over channels."""

    node: onnx.NodeProto
    weight: str
    weight_axis: int
    """Of the weight, which is summed over."""
    source: str
    """What it reads."""
    source_axis: int
    """Of the channels, counted from the end."""


def readers(looked: channels.Channels) -> list[Reader]:
    """Layers that sum over channels of a group, and whose weight nobody else reads."""
    index = Index(looked.model.graph)
    axes = {member.tensor: member.axis for group in looked.groups for member in group.contracted}
    found = []
    for name, axis in axes.items():
        node = index.only_consumer(name)
        if node is not None and name in index.initializers and node.op_type in _LAYERS:
            source = next(one for one in node.input if one != name)
            at = _channels(node, source == node.input[0], len(looked.shapes[source]))
            found.append(Reader(node, name, axis, source, at))
    return found


def _channels(node: onnx.NodeProto, first: bool, rank: int) -> int:
    """Which axis of what a layer reads is summed over, counted from the end."""
    if node.op_type in {"Conv", "ConvTranspose"}:
        return 1 - rank
    if node.op_type == "Gemm":
        turned = bool(walk.attribute(node, "transA" if first else "transB", 0))
        return -2 if turned == first else -1
    return -1 if first else -2


@dataclass
class Moments:
    """Of the slices of one axis."""

    count: int = 0
    seen: int = 0
    """Of the second moment."""
    total: Floats = field(default_factory=lambda: np.zeros(()))
    magnitude: Floats = field(default_factory=lambda: np.zeros(()))
    active: Floats = field(default_factory=lambda: np.zeros(()))
    """How often it was not zero."""
    products: Floats | None = None

    def add(self, rows: npt.NDArray[Any], random: np.random.Generator) -> None:
        """`rows` [positions, slices]."""
        self.count += len(rows)
        self.total = self.total + rows.sum(0, dtype=np.float64)
        self.magnitude = self.magnitude + np.abs(rows).sum(0, dtype=np.float64)
        self.active = self.active + np.count_nonzero(rows, axis=0)
        if rows.shape[1] <= WIDEST:
            some = (
                rows if len(rows) <= POSITIONS else rows[random.choice(len(rows), POSITIONS, replace=False)]
            )
            some = some.astype(np.float64)
            self.products = some.T @ some + (0 if self.products is None else self.products)
            self.seen += len(some)

    @property
    def mean(self) -> Floats:
        return self.total / self.count

    @property
    def second(self) -> Floats | None:
        """E[x x']."""
        return None if self.products is None else self.products / self.seen


def observe(
    model: onnx.ModelProto, found: Iterable[Reader], split: Split, samples: int, seed: int = 0
) -> Mapping[str, Moments]:
    """By what is read; over at most so many samples, in the order of the data set.

    Errors: CompressionError E_MODEL_RUN.
    """
    axes = {reader.source: reader.source_axis for reader in found}
    session = runtime.session(_opened(model, axes), optimise=False)
    random = np.random.default_rng(seed)
    moments = {name: Moments() for name in axes}
    inputs = tensors.inputs(model.graph)
    size = split.batch_size(inputs, BATCH)
    for start, results in zip(
        range(0, samples, size),
        runtime.run_split(session, split, inputs, size=BATCH, outputs=list(axes)),
        strict=False,
    ):
        del start
        for name, value in results.items():
            moved = np.moveaxis(value, axes[name], -1)
            moments[name].add(moved.reshape(-1, moved.shape[-1]), random)
    return moments


def _opened(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """With these outputs too: protobuf messages merge when their bytes are joined."""
    known = {value.name for value in (*model.graph.output, *model.graph.input)}
    inner = onnx.ModelProto()
    inner.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    opened: bytes = model.SerializeToString() + inner.SerializeToString()
    return opened
