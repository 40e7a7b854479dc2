"""Peers of the techniques benchmark: each takes a request, writes an ONNX file and returns JSON."""

import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import prune

from benchmarks import rivals
from benchmarks.fashion import example
from benchmarks.plain import Budget, fine_tune
from benchmarks.twin import BATCH, PIXEL, Images, export, twin, written_into
from compression.graph import weight_rounding
from compression.graph.index import Index
from compression.kernels import rounding

TENSORFLOW = ("tensorflow-cpu==2.21.0", "tf-keras==2.21.0", "tensorflow-model-optimization==0.8.1")
PRUNING_STEPS = 400
GRADIENTS_EVERY = 40


@dataclass(frozen=True)
class Request:
    """One step of a peer: the file it starts from, the data, and what it may spend."""

    step: Mapping[str, Any]
    model: Path
    data: Path
    into: Path
    work: Path
    network: str | None
    seed: int
    threads: int

    @property
    def budget(self) -> Budget:
        own = {name: self.step[name] for name in ("rate", "decay", "augment") if name in self.step}
        return Budget(self.step["epochs"], self.seed)._replace(**own)

    def twin(self, images: Images) -> nn.Module:
        assert self.network is not None, "there is no code of this network"
        return twin(self.model, self.network, images)


def torch_pruning(request: Request) -> dict[str, Any]:
    """Channels by global ranking until `macs` of the multiply-accumulates are left, then fine-tuned."""
    import torch_pruning as tp

    images = Images.load(request.data)
    module = request.twin(images)
    taylor = request.step["importance"] == "taylor"
    importance = (tp.importance.GroupTaylorImportance if taylor else tp.importance.GroupMagnitudeImportance)()
    sample = torch.zeros(1, 1, example.SIZE, example.SIZE)
    pruner = tp.pruner.BasePruner(
        module,
        sample,
        importance,
        global_pruning=True,
        pruning_ratio=0.95,
        iterative_steps=PRUNING_STEPS,
        round_to=8,
        ignored_layers=[module.head],
    )
    before, _ = tp.utils.count_ops_and_params(module, sample)
    for step in range(PRUNING_STEPS):
        if taylor and step % GRADIENTS_EVERY == 0:
            _gradients(module, images)
        pruner.step()
        left, params = tp.utils.count_ops_and_params(module, sample)
        if left <= request.step["macs"] * before:
            break
    widths = {name: m.out_channels for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    fine_tune(module, images, request.budget)
    export(module, request.into)
    return {"macs": left / before, "params": params, "widths": widths}


def _gradients(module: nn.Module, images: Images) -> None:
    """Of the loss on the calibration images, for the Taylor criterion."""
    module.zero_grad()
    parts = (torch.split(x, BATCH) for x in (images.calibration, images.calibration_labels))
    for pixels, labels in zip(*parts, strict=True):
        loss = nn.functional.cross_entropy(module(pixels.float() / PIXEL), labels)
        loss.backward()  # type: ignore[no-untyped-call]


def torch_l1(request: Request) -> dict[str, Any]:
    """torch.nn.utils.prune: the smallest weights of all layers together, at once; masks hold in training."""
    images = Images.load(request.data)
    module = request.twin(images)
    layers = [(m, "weight") for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=request.step["sparsity"])
    fine_tune(module, images, request.budget)
    for layer, name in layers:
        prune.remove(layer, name)  # type: ignore[no-untyped-call]
    assert request.network is not None
    fresh = example.NETWORKS[request.network]()  # `remove` changes the order of parameters
    fresh.load_state_dict(module.state_dict())
    export(fresh, request.into)
    weights = torch.cat([layer.weight.detach().flatten() for layer, _ in layers])
    return {"sparsity": float((weights == 0).float().mean())}


def nncf_static(request: Request) -> dict[str, Any]:
    rivals.nncf_default(request.model, request.data, request.into)
    return {}


def ort_static(request: Request) -> dict[str, Any]:
    rivals.ort_minmax(request.model, request.data, request.into)
    return {}


def rounded(request: Request) -> dict[str, Any]:
    """Weights of every layer to the nearest of 2^bits - 1 values a channel; `minimise`: scales that clip for
    least squares. Written as floats: for accuracy alone.
    """
    proto = onnx.load(request.model)
    index, bits = Index(proto.graph), request.step["bits"]
    values = {}
    for node in proto.graph.node:
        weight = weight_rounding.layer_weight(node, index)
        if weight is not None:
            axis = weight_rounding.output_axis(node, weight.ndim)
            scales = rounding.weight_scales(weight, axis, bits, minimise=request.step["minimise"])
            values[node.input[1]] = rounding.round_trip(weight, scales, axis, bits)
    written_into(request.model, values, request.into)
    return {"layers": len(values)}


def tfmot(request: Request) -> dict[str, Any]:
    """TensorFlow Model Optimization on the Keras twin of the dense network, in an environment of its own."""
    python = _environment(request.work / "tensorflow")
    given, found = request.into.with_suffix(".given.npz"), request.into.with_suffix(".found.npz")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(request.model).graph.initializer}
    layers = ("hidden", "head")
    weights = {f"{x}/{part}": stored[f"{x}.{part}"] for x in layers for part in ("weight", "bias")}
    names = ("sparsity", "initial_sparsity", "epochs")
    options = {name: np.asarray(request.step[name]) for name in names}
    with np.load(request.data) as data:
        images = {name: data[f"train/{name}"] for name in ("image", "label")}
    members: dict[str, Any] = {**weights, **options, **images, "seed": np.asarray(request.seed)}
    np.savez(given, **members)
    script = Path(__file__).with_name("tfmot.py")
    subprocess.run([python, script, given, found], check=True)
    with np.load(found) as pruned:
        values = {f"{x}.{part}": pruned[f"{x}/{part}"] for x in layers for part in ("weight", "bias")}
        sizes = {name: int(pruned[name]) for name in ("keras_gzip", "keras_gzip_before")}
    written_into(request.model, values, request.into)
    given.unlink()
    return sizes


def _environment(home: Path) -> Path:
    """Its interpreter; made by the first who needs it."""
    python, done = home / "bin" / "python", home / "complete"
    if not done.exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *TENSORFLOW], check=True, stdout=sys.stderr
        )
        done.touch()
    return python


PEERS: dict[str, Callable[[Request], dict[str, Any]]] = {
    "torch_pruning": torch_pruning,
    "torch_l1": torch_l1,
    "nncf_static": nncf_static,
    "ort_static": ort_static,
    "rounded": rounded,
    "tfmot": tfmot,
}
