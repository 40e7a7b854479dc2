"""Correction: layer by layer, what mixes the groups is fitted anew by least squares, so that a rewritten
layer gives of the rewritten network's activations what the layer gave of the original's; drift of the layers
before it is taken back (He et al. 2017, arXiv:1707.06168, section 3.2).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx

from compression import runtime
from compression.factorization.observation import Samples
from compression.graph import tensors
from compression.graph.index import Index
from compression.graph.upstream import upstream
from compression.kernels.redundancy import regularised
from compression.rewriting.separation import Floats

BATCH, POSITIONS = 32, 4096
"""Samples of a run, and positions of it that are looked at."""


class Mixing(NamedTuple):
    """A 1 x 1 convolution of the rewritten network, and the tensor it makes, which the original has too."""

    weight: str
    bias: str
    """An initializer that nothing else reads, or none."""
    source: str
    output: str


def correct(
    original: onnx.ModelProto, rewritten: onnx.ModelProto, layers: Sequence[Mixing], samples: Samples
) -> None:
    """In place; `layers` in the order of the graph. Runs both networks up to each layer.

    Errors: CompressionError E_MODEL_RUN.
    """
    for layer in layers:
        moments = _observed(original, rewritten, layer, samples)
        index = Index(rewritten.graph)
        weight = index.constant(layer.weight)
        assert weight is not None  # noqa: S101  it was written as an initializer
        matrix, shift = moments.fitted(weight.reshape(len(weight), -1), shifted=bool(layer.bias))
        index.replace(layer.weight, matrix.reshape(weight.shape).astype(weight.dtype))
        if layer.bias:
            index.replace(layer.bias, shift.astype(weight.dtype))


class _Moments:
    """Of what a 1 x 1 reads (z) and what it should give (y)."""

    def __init__(self) -> None:
        self._count = 0
        self._z = self._y = self._zz = self._yz = np.zeros(())

    def add(self, z: Floats, y: Floats) -> None:
        """[positions, channels] each."""
        self._count += len(z)
        self._z, self._y = self._z + z.sum(0), self._y + y.sum(0)
        self._zz, self._yz = self._zz + z.T @ z, self._yz + y.T @ z

    def fitted(self, matrix: Floats, *, shifted: bool) -> tuple[Floats, Floats]:
        """y ~ A z + b that is near to `matrix` where the samples say nothing; b is 0 unless it may shift."""
        z, y = self._z / self._count, self._y / self._count
        zz, yz = self._zz / self._count, self._yz / self._count
        if shifted:
            zz, yz = zz - np.outer(z, z), yz - np.outer(y, z)
        matrix = matrix + np.linalg.solve(regularised(zz), (yz - matrix @ zz).T).T
        return matrix, y - matrix @ z


def _observed(
    original: onnx.ModelProto, rewritten: onnx.ModelProto, layer: Mixing, samples: Samples
) -> _Moments:
    inputs = tensors.inputs(original.graph)
    sessions = [
        runtime.session(upstream(model, [name]), threads=samples.threads)
        for model, name in ((rewritten, layer.source), (original, layer.output))
    ]
    both = (runtime.run_split(one, samples.split, inputs, size=BATCH) for one in sessions)
    random = np.random.default_rng(samples.seed)
    moments, size = _Moments(), samples.split.batch_size(inputs, BATCH)
    for _, made, wanted in zip(range(0, samples.most, size), *both, strict=False):
        z, y = _rows(made[layer.source]), _rows(wanted[layer.output])
        some = np.sort(random.choice(len(z), min(POSITIONS, len(z)), replace=False))
        moments.add(z[some].astype(np.float64), y[some].astype(np.float64))
    return moments


def _rows(values: runtime.Array) -> runtime.Array:
    """[positions, channels]."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
