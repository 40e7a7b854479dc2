"""Cuts of real models: random units of every group removed, against the same model with zeros in the weights
that sum over them.

    python -m benchmarks.cuts --data DIR [MODEL.onnx ...]

DIR may hold ppocr-v4/*.onnx, mobilenet_v2/*.pth and minilm/*.safetensors; the example is always taken.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from compression import runtime
from compression.formats import load_model
from compression.graph import channels
from compression.graph.channels import Channels, Kept
from compression.model import Model
from compression.samples import made_up

EXAMPLE = Path(__file__).parents[1] / "examples" / "fashion_mnist_resnet.onnx"
RATIOS = (0.25, 0.5, 0.75)
BOUND = 1e-4


class Row(NamedTuple):
    model: str
    groups: int
    seconds: float
    """For finding the groups."""
    share: float
    """Of the multiply-accumulates (of the parameters, where those are unknown) that go with the smallest
    network that is left.
    """
    errors: tuple[float, ...]
    """Largest difference of an output, relative to its largest value, by ratio."""


def measure(path: Path, scratch: Path) -> Row:
    load_model(path, path.name, scratch / "model.onnx", scratch)
    model = Model.open(scratch / "model.onnx")
    split = made_up(model, 0).split
    feeds = [dict(one) for _, one in zip(range(2), split.batches(model.inputs, 3), strict=False)]
    first = next(iter(split.batches(model.inputs, 1)))
    begin = time.perf_counter()
    looked = channels.find(model.proto, first)
    seconds = time.perf_counter() - begin
    errors = tuple(max(_error(looked, ratio, feeds_) for feeds_ in feeds) for ratio in RATIOS)
    return Row(path.stem, len(looked.groups), seconds, _share(looked), errors)


def _error(looked: Channels, ratio: float, feeds: Mapping[str, runtime.Array]) -> float:
    random = np.random.default_rng(round(100 * ratio))
    kept = {
        group.name: sorted(random.permutation(group.size)[: max(1, round(group.size * (1 - ratio)))].tolist())
        for group in looked.groups
    }
    cut = channels.cut(looked, kept)
    onnx.checker.check_model(cut)
    expected, found = (
        runtime.run(runtime.session(one, optimise=False), feeds) for one in (zeroed(looked, kept), cut)
    )
    return max(
        float(np.abs(found[name] - value).max() / max(1.0, np.abs(value).max()))
        for name, value in expected.items()
    )


def zeroed(looked: Channels, kept: Kept) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(looked.model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for group in looked.groups:
        gone = np.setdiff1d(np.arange(group.size), kept[group.name])
        for member in group.contracted:
            values = np.moveaxis(numpy_helper.to_array(stored[member.tensor]).copy(), member.axis, 0)
            values[member.indices[gone].ravel()] = 0
            whole = np.ascontiguousarray(np.moveaxis(values, 0, member.axis))
            stored[member.tensor].CopyFrom(numpy_helper.from_array(whole, member.tensor))
    return model


def _share(looked: Channels) -> float:
    before, after = (
        channels.cost(looked, kept) for kept in ({}, {group.name: [0] for group in looked.groups})
    )
    if before[0] and after[0]:
        return 1 - after[0] / before[0]
    return 1 - after[1] / before[1]


def _models(data: Path | None, scratch: Path) -> Iterator[Path]:
    yield EXAMPLE
    if data is None:
        return
    yield from sorted(data.glob("ppocr-v4/*.onnx"))
    for weights in data.glob("mobilenet_v2/*.pth"):
        from benchmarks import mobilenet

        mobilenet.export(weights, scratch / "mobilenet_v2.onnx")
        yield scratch / "mobilenet_v2.onnx"
    for weights in data.glob("minilm/**/*.safetensors"):
        from safetensors.numpy import load_file

        from benchmarks import minilm

        onnx.save(minilm.encoder(load_file(weights)), scratch / "minilm.onnx")
        yield scratch / "minilm.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    errors = " | ".join(f"error {ratio:>4.0%}" for ratio in RATIOS)
    print(f"| {'model':34} | groups | found in | prunable | {errors} |")
    print(f"|{'---|' * (4 + len(RATIOS))}")
    worst = 0.0
    with TemporaryDirectory() as folder:
        for path in [*_models(arguments.data, Path(folder)), *arguments.models]:
            row = measure(path, Path(folder))
            errors = " | ".join(f"{error:10.1e}" for error in row.errors)
            print(
                f"| {row.model:34} | {row.groups:6} | {row.seconds:6.2f} s | {row.share:8.1%} | {errors} |",
                flush=True,
            )
            worst = max(worst, *row.errors)
    if worst > BOUND:
        raise SystemExit(f"an error of {worst:.1e} is above {BOUND:g}")


if __name__ == "__main__":
    main()
