"""Reconstruction: the layers that read what is cut are corrected, so that their outputs change least.

What a removed channel held is told from the kept ones by least squares on calibration samples, and added to
their weights (He et al. 2017, arXiv:1707.06168; Luo et al. 2017, ThiNet, arXiv:1707.06342, in closed form).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from compression.graph import channels
from compression.graph.index import Index
from compression.kernels.redundancy import regularised
from compression.pruning.observation import Floats, Moments, Reader

Mask = npt.NDArray[np.bool_]


def reconstructed(
    looked: channels.Channels, kept: channels.Kept, readers: list[Reader], moments: Mapping[str, Moments]
) -> channels.Channels:
    """The same graph with corrected weights and biases, to be cut next."""
    model = onnx.ModelProto()
    model.CopyFrom(looked.model)
    index = Index(model.graph)
    found = channels.masks(looked, kept)
    for reader in readers:
        mask = found.get(reader.weight, {}).get(reader.weight_axis)
        seen = moments.get(reader.source)
        if mask is not None and seen is not None and (moment := seen.second) is not None:
            _correct(index, reader, mask, seen.mean, moment)
    return looked.with_model(model)


def _correct(index: Index, reader: Reader, mask: Mask, mean: Floats, moment: Floats) -> None:
    bias = _bias(index, reader)
    if not bias:
        mean = np.zeros_like(mean)
    told = _told(moment - np.outer(mean, mean), mask)
    weight = numpy_helper.to_array(index.initializers[reader.weight])
    rows = np.moveaxis(weight.astype(np.float64), reader.weight_axis, 0)
    lost = rows[~mask]
    rows[mask] += np.tensordot(told, lost, 1)
    index.replace(reader.weight, np.moveaxis(rows, 0, reader.weight_axis).astype(weight.dtype))
    if bias:
        shift = mean[~mask] - mean[mask] @ told
        before = numpy_helper.to_array(index.initializers[bias])
        outputs = np.tensordot(shift, lost, 1)
        extra = outputs.sum(tuple(range(1, outputs.ndim)))
        index.replace(bias, (before + extra).astype(before.dtype))


def _told(moment: Floats, mask: Mask) -> Floats:
    """[kept, removed]: x_removed ~ x_kept @ told."""
    own = regularised(moment[np.ix_(mask, mask)])
    return np.asarray(np.linalg.solve(own, moment[np.ix_(mask, ~mask)]))


def _bias(index: Index, reader: Reader) -> str:
    """Of a Conv or Gemm, if it is the layer's own."""
    if reader.node.op_type not in {"Conv", "Gemm"} or len(reader.node.input) < 3:
        return ""
    name = reader.node.input[2]
    return name if name in index.initializers and index.only_consumer(name) is not None else ""
