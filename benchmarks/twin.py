"""The torch twin of a model file whose code is known: for peers that take modules, not ONNX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from benchmarks.fashion import example
from compression import runtime
from compression.engine import insert_batchnorm
from compression.model import Model

PIXEL = 255
"""The file takes raw pixels, the module 0..1."""
TOLERANCE = 1e-4
"""Largest error of a twin, relative to the scale of the outputs."""
BATCH = 128


@dataclass(frozen=True)
class Images:
    """Fashion-MNIST as a peer's script has it: pixels [n, 1, 28, 28] in uint8, and labels."""

    train: Tensor
    labels: Tensor
    calibration: Tensor
    calibration_labels: Tensor

    @classmethod
    def load(cls, path: Path) -> "Images":
        names = ("train/image", "train/label", "calibration/image", "calibration/label")
        with np.load(path) as members:
            return cls(*(torch.tensor(members[name]) for name in names))


def twin(model: Path, network: str, images: Images) -> nn.Module:
    """The module with the file's weights. BatchNorm, which the file holds folded, is put back with the
    statistics of the calibration images.

    Errors: AssertionError where its outputs are not the file's.
    """
    pixels = images.calibration.float()
    inserted = insert_batchnorm(Model.open(model), [{"image": part} for part in torch.split(pixels, BATCH)])
    module: nn.Module = example.NETWORKS[network]()
    state = module.state_dict()
    state |= _values(inserted.proto)
    module.load_state_dict(state)
    with torch.no_grad():
        next(module.parameters()).mul_(PIXEL)
    error = difference(model, module.eval(), pixels)
    assert error < TOLERANCE, f"the twin is off by {error:.2g}"
    return module


def _values(proto: onnx.ModelProto) -> dict[str, Tensor]:
    """By their names in the module: the exporter kept those of weights; BatchNorm x.1 follows Conv x.0."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    convolutions = {node.output[0]: node.input[1] for node in proto.graph.node if node.op_type == "Conv"}
    found = {name: value for name, value in stored.items() if name.endswith((".weight", ".bias"))}
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            layer = convolutions[node.input[0]].removesuffix("0.weight") + "1."
            parts = ("weight", "bias", "running_mean", "running_var")
            found |= {layer + part: stored[name] for part, name in zip(parts, node.input[1:], strict=True)}
    return {name: torch.tensor(value) for name, value in found.items()}


def difference(model: Path, module: nn.Module, pixels: Tensor) -> float:
    """Largest error of the module's outputs, relative to the largest output of the file."""
    session = runtime.session(model)
    (wanted,) = runtime.run(session, {"image": pixels.numpy()}).values()
    with torch.no_grad():
        found = module(pixels / PIXEL).numpy()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def export(module: nn.Module, into: Path) -> None:
    """As the example's own script does, BatchNorm folded; what comes of it is what the runtime measures."""
    example.export(module, into)


def written_into(model: Path, weights: Mapping[str, Any], into: Path) -> None:
    """The file with other values for the initializers of these names."""
    proto = onnx.load(model)
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            value = np.ascontiguousarray(weights[tensor.name], dtype=np.float32)
            assert list(value.shape) == list(tensor.dims), tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(proto, into)
