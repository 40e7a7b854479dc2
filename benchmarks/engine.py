#!/usr/bin/env python3
"""Training throughput of the engine against the same network as plain torch modules, interleaved; and, for
model files named on the command line, the difference to ONNX Runtime without optimisations."""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from benchmarks.networks import as_onnx, residual_network, separable_network, transformer
from compression.engine import Engine, Precision, use_precision
from compression.model import Model

Step = Callable[[], None]
TOLERANCE, FLOOR = 1e-5, 1e-6


def plain_step(network: nn.Module, image: Tensor, labels: Tensor, precision: Precision) -> Step:
    if precision.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", dtype=precision.autocast, enabled=precision.autocast is not None):
            logits = network(image)
        _update(optimizer, logits, labels)

    return step


def engine_step(engine: Engine, image: Tensor, labels: Tensor, precision: Precision) -> Step:
    use_precision(engine, precision)
    optimizer = torch.optim.SGD(engine.parameters(), lr=0.01, momentum=0.9)
    return lambda: _update(optimizer, next(iter(engine(image=image).values())), labels)


def _update(optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor) -> None:
    loss = nn.functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def throughput(
    build: Callable[[], nn.Sequential], precision: Precision, batch: int, rounds: int
) -> dict[str, float]:
    """Images per second of both and the median of the per-round ratios (which of the two goes first
    alternates)."""
    torch.manual_seed(0)
    network = build().train()
    engine = Engine.from_model(as_onnx(network)).train()
    image, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    steps = [plain_step(network, image, labels, precision), engine_step(engine, image, labels, precision)]
    seconds: list[list[float]] = [[], []]
    for index in range(rounds + 2):
        for which in (0, 1) if index % 2 else (1, 0):
            begin = time.perf_counter()
            steps[which]()
            seconds[which].append(time.perf_counter() - begin)
    plain, ours = (column[2:] for column in seconds)
    ratio = statistics.median(a / b for a, b in zip(plain, ours, strict=True))
    return {
        "plain": batch / statistics.median(plain),
        "engine": batch / statistics.median(ours),
        "ratio": ratio,
    }


def difference(path: Path, sizes: Mapping[str, int]) -> dict[str, float]:
    """Largest errors over the tolerated one (1e-5 of the output's scale, at least 1e-6): the engine
    against ONNX Runtime, and both against the engine in float64 (unless the graph itself casts to float32).
    """
    model = Model(onnx.load(path))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.serialized, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    given = {entry.name: _array(entry, sizes, rng) for entry in session.get_inputs()}
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    ours, theirs = _outputs(Engine.from_model(model), tensors), session.run(None, given)
    exact = {name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}
    found = {"engine, runtime": _worst(ours, theirs)}
    with contextlib.suppress(RuntimeError):
        double = _outputs(Engine.from_model(model).double(), exact)
        found |= {"engine, float64": _worst(ours, double), "runtime, float64": _worst(theirs, double)}
    return found


def _outputs(engine: Engine, tensors: Mapping[str, Tensor]) -> list[Any]:
    with torch.no_grad():
        return [value.numpy() for value in engine.eval()(tensors).values()]


def _worst(results: list[Any], wanted: list[Any]) -> float:
    pairs = zip(results, wanted, strict=True)
    return max(float(np.abs(a - b).max() / max(TOLERANCE * np.abs(b).max(), FLOOR)) for a, b in pairs)


def _array(entry: Any, sizes: Mapping[str, int], rng: np.random.Generator) -> Any:
    """Noise of the declared shape; what is dynamic comes from `sizes`, by axis name or "input.axis"."""
    shape = [
        size
        if isinstance(size, int) and size > 0
        else sizes.get(f"{entry.name}.{axis}", sizes.get(str(size), 2))
        for axis, size in enumerate(entry.shape)
    ]
    if entry.type == "tensor(int64)":
        return np.full(shape, sizes.get(entry.name, 1), dtype=np.int64)
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", type=Path, help="float32 ONNX files to compare with ONNX Runtime"
    )
    parser.add_argument(
        "--sizes", default="", help="dynamic sizes and integer inputs: x.2=96,x.3=160,sr=16000"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {}
    sizes = {
        name: int(size)
        for name, _, size in (pair.partition("=") for pair in arguments.sizes.split(",") if pair)
    }
    for path in arguments.models:
        results[path.name] = difference(path, sizes)
        figures = "  ".join(f"{name} {value:.3f}" for name, value in results[path.name].items())
        print(f"{path.name:42} of the tolerated difference: {figures}")
    for build in (residual_network, separable_network, transformer) if not arguments.models else ():
        for precision in (Precision(), Precision(torch.bfloat16, channels_last=True)):
            name = f"{build.__name__} {'bfloat16, channels last' if precision.autocast else 'float32'}"
            row = results[name] = throughput(build, precision, arguments.batch, arguments.rounds)
            print(
                f"{name:42} plain {row['plain']:8.1f}  engine {row['engine']:8.1f} img/s {row['ratio']:.3f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
