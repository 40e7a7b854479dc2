"""Tiny networks and data that a few hundred steps can learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper

from compression.dataset import Dataset, Split
from compression.model import Model
from compression.technique import Context
from compression.training.options import Training
from tests.compression.networks import Builder

F, I64 = TensorProto.FLOAT, TensorProto.INT64
WIDTH = 8


def dense(
    outputs: int, last: str = "", shape: tuple[int | str, ...] = ("batch", WIDTH), **ending: int
) -> Model:
    """Two layers along the last axis; `last` is an operator on top."""
    b = Builder(3)
    hidden = b.node("MatMul", ["x", b.weight("w1", WIDTH, 32, scale=0.4)], "h1")
    hidden = b.node("Relu", [b.node("Add", [hidden, b.weight("b1", 32, scale=0.1)], "h2")], "h3")
    scores = b.node("MatMul", [hidden, b.weight("w2", 32, outputs, scale=0.2)], "h4")
    top = b.node("Add", [scores, b.weight("b2", outputs, scale=0.1)], "h5" if last else "y")
    if last:
        b.node(last, [top], "y", **ending)
    value = helper.make_tensor_value_info
    return Model(b.model([value("x", F, shape)], [value("y", F, [*shape[:-1], outputs])]))


def convolutional() -> Model:
    """Scores of 3 classes at each pixel, [N, 3, 4, 4]; with BatchNormalization and Dropout."""
    b = Builder(4)
    x = b.node("Conv", ["x", b.weight("w1", 8, 1, 3, 3)], "c1", kernel_shape=[3, 3], pads=[1] * 4)
    stats = [b.constant(n, np.full(8, v, np.float32)) for n, v in (("g", 1), ("b", 0), ("m", 0), ("v", 1))]
    x = b.node("Relu", [b.node("BatchNormalization", [x, *stats], "n1")], "r1")
    x = b.node("Dropout", [x, b.constant("ratio", np.float32(0.1)), b.constant("on", np.array(True))], "d1")
    b.node("Conv", [x, b.weight("w2", 3, 8, 1, 1), b.weight("b2", 3, scale=0.1)], "y", kernel_shape=[1, 1])
    value = helper.make_tensor_value_info
    shape = [value("x", F, ["batch", 1, 4, 4])], [value("y", F, ["batch", 3, 4, 4])]
    return Model(b.model(*shape))


def inputs(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def answers(x: np.ndarray, outputs: int) -> np.ndarray:
    """Numbers that depend on the inputs by a law the network can learn."""
    rule = np.random.default_rng(9).standard_normal((x.shape[-1], outputs)).astype(np.float32)
    return np.tanh(x @ rule)


STEPS = Training(epochs=3, batch_size=32, loss="labels", validation=0, precision="float32")


def problem(n: int = 160) -> Split:
    x = inputs(n, WIDTH)
    return Split({"x": x}, answers(x, 4).argmax(-1))


def context(folder: Path, split: Split, seed: int = 0, **more: object) -> Context:
    arrays = {f"train/{name}": value for name, value in split.arrays.items()}
    arrays |= {} if split.labels is None else {"train/label": split.labels}
    return Context(Dataset(arrays, 0), seed, folder, **more)  # type: ignore[arg-type]


@dataclass
class Told:
    """Keeps what was reported."""

    lines: list[tuple[float, str, Mapping[str, float]]] = field(default_factory=list)

    def __call__(self, fraction: float, message: str, numbers: Mapping[str, float] = {}, /) -> None:
        self.lines.append((fraction, message, numbers))


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class At:
    """An extension that does something before a step, and has a state."""

    step: int
    act: Callable[[], None]
    seen: int = 0

    def before_step(self, step: int, steps: int) -> None:
        assert step < steps
        if step == self.step:
            self.act()

    def after_step(self, step: int, steps: int) -> None:
        assert step < steps
        self.seen += 1

    def after_training(self) -> None:
        self.seen += 1000

    def state(self) -> Mapping[str, torch.Tensor]:
        return {"seen": torch.tensor(self.seen)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.seen = int(state["seen"])
