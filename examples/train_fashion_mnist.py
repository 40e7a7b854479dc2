#!/usr/bin/env python3
"""Train a network of the quickstart on Fashion-MNIST, export it to ONNX, or measure the export."""

import argparse
import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnxscript import opset20 as op
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HERE = Path(__file__).parent
MODEL = "fashion_mnist_{}.onnx"
ARRAYS = "fashion_mnist.npz"
CLASSES = 10
SIZE = 28
CALIBRATION = 512
TRAIN = 10_000
BATCH = 128
PAD = 2

Bytes = npt.NDArray[np.uint8]


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Basic residual block (He et al. 2016, arXiv:1512.03385); a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride)
        self.second = conv_bn(outputs, outputs, 3)
        self.shortcut = nn.Identity() if stride == 1 else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Fourteen weighted layers; takes [batch, 1, 28, 28] in 0..1, returns logits [batch, 10].

    `widths`: channels of the three stages; `stride`: of the first layer.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), stride: int = 1) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = conv_bn(1, first, 3, stride)
        self.stages = nn.Sequential(
            Block(first, first, 1), Block(first, first, 1),
            Block(first, second, 2), Block(second, second, 1),
            Block(second, third, 2), Block(third, third, 1),
        )  # fmt: skip
        self.head = nn.Linear(third, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stages(torch.relu(self.stem(image)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Dense(nn.Module):
    """784-128-10, the network of many a first tutorial; takes [batch, 1, 28, 28] in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(SIZE * SIZE, 128)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.hidden(image.flatten(1))))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "wide": partial(ResNet, (64, 128, 256), stride=2),
    "dense": Dense,
}


def read_idx(path: Path) -> Bytes:
    """Read a gzipped IDX file of bytes: a magic number ending in the rank, big-endian sizes, the data."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape.astype(int))


def read_split(data: Path, split: str) -> tuple[Bytes, npt.NDArray[np.int64]]:
    images = read_idx(data / f"{split}-images-idx3-ubyte.gz")[:, None]
    return images, read_idx(data / f"{split}-labels-idx1-ubyte.gz").astype(np.int64)


def shift_and_flip(images: Tensor) -> Tensor:
    """Crop each image at random from its zero-padded self; mirror half of them."""
    count = len(images)
    padded = nn.functional.pad(images[:, 0], (PAD, PAD, PAD, PAD))
    rows = torch.randint(2 * PAD + 1, (count, 1)) + torch.arange(SIZE)
    columns = torch.randint(2 * PAD + 1, (count, 1)) + torch.arange(SIZE)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Return the exponential moving average of the weights after the last epoch; no test image is seen."""
    model = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(images) // BATCH
    augment = shift_and_flip if isinstance(network, ResNet) else torch.clone  # a dense layer knows no shift
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=max(1, epochs * steps), pct_start=0.2, cycle_momentum=False
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
            batch = augment(images[index]).float() / 255
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(batch.to(memory_format=torch.channels_last))
            loss = criterion(logits.float(), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: training loss {total / steps:.4f}", flush=True)
    return average.module


def strip(message: Any) -> None:
    """Remove, at every depth, the doc strings and metadata in which the exporter notes source paths."""
    for field, value in message.ListFields():
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                strip(child)


def global_average(x: Any, *_: Any, **__: Any) -> Any:
    """Translate the network's mean over height and width, which the exporter would make a ReduceMean."""
    return op.Squeeze(op.GlobalAveragePool(x), op.Constant(value_ints=[2, 3]))  # type: ignore[arg-type]


def export(model: nn.Module, path: Path) -> None:
    """Write one ONNX file that takes raw pixels: 1/255 moves into the first layer, as its padding is zero."""
    model = model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with torch.no_grad():
        next(model.parameters()).div_(255)
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, SIZE, SIZE),),
        input_names=["image"],
        output_names=["logits"],
        opset_version=20,
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        custom_translation_table={torch.ops.aten.mean.dim: global_average},
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = program.model_proto
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def write_arrays(path: Path, data: Path, seed: int) -> None:
    """Write 512 training images for calibration, 10,000 others to train on, both class-balanced, and all test
    images, as raw pixels.
    """
    images, labels = read_split(data, "train")
    test_images, test_labels = read_split(data, "t10k")
    rng = np.random.default_rng(seed)
    shares = np.bincount(np.arange(CALIBRATION) % CLASSES)
    chosen = [rng.choice(np.flatnonzero(labels == c), n, replace=False) for c, n in enumerate(shares)]
    index = rng.permutation(np.concatenate(chosen))
    rest = [np.setdiff1d(np.flatnonzero(labels == c), index) for c in range(CLASSES)]
    train = rng.permutation(np.concatenate([rng.choice(r, TRAIN // CLASSES, replace=False) for r in rest]))
    arrays: dict[str, Any] = {"train/image": images[train], "train/label": labels[train]}
    arrays |= {"calibration/image": images[index], "calibration/label": labels[index]}
    arrays |= {"test/image": test_images, "test/label": test_labels}
    np.savez_compressed(path, **arrays)


def evaluate(model: Path, arrays: Path) -> float:
    """Return the top-1 accuracy of the ONNX file on the test images, in float32 on the CPU."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(arrays) as stored:
        images, labels = stored["test/image"].astype(np.float32), stored["test/label"]
    batches = np.array_split(images, 20)
    logits = np.concatenate([session.run(["logits"], {"image": batch})[0] for batch in batches])
    return float((logits.argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = "Debian package dataset-fashion-mnist or https://github.com/zalandoresearch/fashion-mnist"
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--data", type=Path, help=f"train from the four *-ubyte.gz files here ({source})")
    task.add_argument("--evaluate", action="store_true", help="only measure the exported model")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the .onnx and the .npz")
    parser.add_argument("--network", choices=NETWORKS, default="resnet")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = options.output / MODEL.format(options.network)
    if options.data is not None:
        torch.manual_seed(options.seed)
        images, labels = map(torch.tensor, read_split(options.data, "train"))
        export(train(NETWORKS[options.network](), images, labels, options.epochs), model)
        write_arrays(options.output / ARRAYS, options.data, options.seed)
    print(f"test accuracy: {evaluate(model, options.output / ARRAYS):.2%}")


if __name__ == "__main__":
    main()
