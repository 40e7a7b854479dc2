"""Subjects of the techniques benchmark: networks on all of Fashion-MNIST, the text direction classifier."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import inputs
from benchmarks.subjects import EXAMPLES, normalised

sys.path.append(str(EXAMPLES))
example: Any = import_module("train_fashion_mnist")
"""The script that trained the examples: their networks, augmentation and export."""

CALIBRATION = 512
LINES = 12_000
"""Rendered; of 4,000 the small network learns the lines themselves."""


@dataclass(frozen=True)
class Subject:
    """A normalised model file and a normalised data set."""

    name: str
    title: str
    model: Path
    data: Path
    network: str | None
    """Its name in the example script; None: there is no code of it."""

    @cached_property
    def digest(self) -> str:
        """Of the model and of what is trained and tested on."""
        found = hashlib.sha256(self.model.read_bytes())
        found.update(self.data.name.encode())
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """Where subjects are made."""

    data: Path
    work: Path
    images: int
    """Training images used, at most."""
    epochs: int
    """Of the training of what is trained here."""


def arrays(source: Source) -> Path:
    """Fashion-MNIST as raw pixels; 512 class-balanced training images are those of calibration too."""
    images = source.images
    into = source.work / (f"fashion-{images}.npz")
    if into.exists():
        return into
    train, labels = example.read_split(source.data / "fashion-mnist", "train")
    test, test_labels = example.read_split(source.data / "fashion-mnist", "t10k")
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = np.argsort(labels[order], kind="stable").reshape(example.CLASSES, -1)
    calibration = order[by_class.T.ravel()[:CALIBRATION]]
    members = {"train/image": train[order[:images]], "train/label": labels[order[:images]]}
    members |= {"calibration/image": train[calibration], "calibration/label": labels[calibration]}
    members |= {"test/image": test, "test/label": test_labels}
    write(into, members)
    return into


def write(into: Path, members: dict[str, Any]) -> None:
    """Uncompressed, as the service keeps it; whole or not at all."""
    unfinished = into.with_suffix(".part.npz")
    np.savez(unfinished, **members)
    unfinished.rename(into)


def _copied(source: Path, work: Path) -> Path:
    into = work / source.name
    return into if into.exists() else normalised(source, into)


def resnet(source: Source) -> Subject:
    model = _copied(EXAMPLES / "fashion_mnist_resnet.onnx", source.work)
    return Subject("resnet", "example CNN, 32-64-128, 80.5 M MACs", model, arrays(source), "resnet")


def dense(source: Source) -> Subject:
    model = _copied(EXAMPLES / "fashion_mnist_dense.onnx", source.work)
    return Subject("dense", "dense 784-128-10", model, arrays(source), "dense")


def wide(source: Source) -> Subject:
    """Trained here, once, as the example was."""
    trained = source.work / "wide"
    model = trained / example.MODEL.format("wide")
    if not model.exists():
        trained.mkdir(exist_ok=True)
        command = [sys.executable, str(EXAMPLES / "train_fashion_mnist.py"), "--network", "wide"]
        command += ["--data", str(source.data / "fashion-mnist"), "--output", str(trained)]
        subprocess.run([*command, "--epochs", str(source.epochs)], check=True)
    return Subject("wide", "CNN 64-128-256, 88 M MACs", _copied(model, source.work), arrays(source), "wide")


def direction_model(source: Source) -> Path:
    return _copied(source.data / "ppocr-v4" / "ch_ppocr_mobile_v2.0_cls_infer.onnx", source.work)


def direction(source: Source) -> Subject:
    """Unlabelled lines to train on; the labels of the held-out ones only say how good the original is."""
    model = direction_model(source)
    lines = min(LINES, source.images)
    into = source.work / f"direction-{lines}.npz"
    if not into.exists():
        calibration, _ = inputs.text_lines(256, np.random.default_rng(0))
        test, labels = inputs.text_lines(600, np.random.default_rng(1))
        train, _ = inputs.text_lines(lines, np.random.default_rng(2))
        write(into, {"calibration/x": calibration, "train/x": train, "test/x": test, "test/label": labels})
    return Subject("direction", "text direction classifier", model, into, None)


MAKERS: dict[str, Callable[[Source], Subject]] = {
    "resnet": resnet,
    "wide": wide,
    "dense": dense,
    "direction": direction,
}
