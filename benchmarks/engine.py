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
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compression.engine import Engine, Precision, use_precision
from compression.model import Model

Step = Callable[[], None]
TOLERANCE, FLOOR = 1e-5, 1e-6


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(channels, channels, 3), nn.ReLU(), *conv_bn(channels, channels, 3))
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(x + self.body(x))
        return y


def residual_network() -> nn.Sequential:
    layers: list[nn.Module] = [*conv_bn(3, 16, 3), nn.ReLU()]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        layers += [
            *conv_bn(inputs, outputs, 3, outputs // inputs),
            nn.ReLU(),
            Residual(outputs),
            Residual(outputs),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def separable_network() -> nn.Sequential:
    layers: list[nn.Module] = [*conv_bn(3, 32, 3), nn.Hardswish()]
    for inputs, outputs, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2)):
        layers += [
            *conv_bn(inputs, inputs, 3, stride, inputs),
            nn.Hardswish(),
            *conv_bn(inputs, outputs, 1),
            nn.Hardswish(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


class Encoder(nn.Module):
    """A layer of a transformer encoder."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.first, self.last = nn.LayerNorm(size), nn.LayerNorm(size)
        self.wide, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.split(part(x)) for part in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = self.first(x + self.out(y))
        z: Tensor = self.last(x + self.narrow(nn.functional.gelu(self.wide(x))))
        return z


class Rows(nn.Module):
    """The rows of an image as a sequence."""

    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(image.shape[0], 96, 32)


def transformer() -> nn.Sequential:
    layers = [Rows(), nn.Linear(32, 256), *(Encoder(256, 8) for _ in range(3))]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 256, 10))


class Writer:
    """Writes such a network as ONNX, node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def add(
        self, op_type: str, inputs: list[str], tensors: list[Tensor] | None = None, **attributes: Any
    ) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        for index, tensor in enumerate(tensors or []):
            inputs = [*inputs, f"{name}.{index}"]
            self.initializers.append(numpy_helper.from_array(tensor.detach().numpy(), inputs[-1]))
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def linear(self, module: nn.Linear, x: str) -> str:
        product = self.add("MatMul", [x], [module.weight.t().contiguous()])
        return self.add("Add", [product], [module.bias])

    def encoder(self, module: Encoder, x: str) -> str:
        """As exporters write it: attention and gelu in their single operations."""
        y = self.attention(module, x)
        x = self.norm(module.first, self.add("Add", [x, self.linear(module.out, y)]))
        wide = self.linear(module.wide, x)
        erf = self.add("Erf", [self.add("Div", [wide, self.constant(np.float32(2**0.5))])])
        gate = self.add("Add", [erf, self.constant(np.float32(1))])
        gelu = self.add("Mul", [self.add("Mul", [wide, gate]), self.constant(np.float32(0.5))])
        return self.norm(module.last, self.add("Add", [x, self.linear(module.narrow, gelu)]))

    def attention(self, module: Encoder, x: str) -> str:
        heads = self.constant([0, 0, module.heads, -1])
        parts = ((module.query, [0, 2, 1, 3]), (module.key, [0, 2, 3, 1]), (module.value, [0, 2, 1, 3]))
        query, key, value = (
            self.add("Transpose", [self.add("Reshape", [self.linear(part, x), heads])], perm=order)
            for part, order in parts
        )
        scale = self.constant(np.float32((module.query.out_features / module.heads) ** -0.5))
        scores = self.add("Mul", [self.add("MatMul", [query, key]), scale])
        y = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), value])
        joined = self.add("Transpose", [y], perm=[0, 2, 1, 3])
        return self.add("Reshape", [joined, self.constant([0, 0, -1])])

    def norm(self, module: nn.LayerNorm, x: str) -> str:
        return self.add("LayerNormalization", [x], [module.weight, module.bias])

    def sequential(self, module: nn.Sequential, x: str) -> str:
        for child in module:
            x = self.module(child, x)
        return x

    def residual(self, module: Residual, x: str) -> str:
        return self.module(module.last, self.add("Add", [x, self.module(module.body, x)]))

    def conv(self, module: nn.Conv2d, x: str) -> str:
        pads = [int(module.kernel_size[0] // 2)] * 4
        shape = {"kernel_shape": list(module.kernel_size), "strides": list(module.stride)}
        return self.add("Conv", [x], [module.weight], pads=pads, group=module.groups, **shape)

    def batch_norm(self, module: nn.BatchNorm2d, x: str) -> str:
        tensors: list[Any] = [module.weight, module.bias, module.running_mean, module.running_var]
        return self.add("BatchNormalization", [x], tensors)

    def module(self, module: nn.Module, x: str) -> str:
        layers: dict[type[nn.Module], Callable[[Any, str], str]] = {
            nn.Sequential: self.sequential,
            Residual: self.residual,
            nn.Conv2d: self.conv,
            nn.BatchNorm2d: self.batch_norm,
            nn.Linear: self.linear,
            Encoder: self.encoder,
            Rows: lambda _, x: self.add("Reshape", [x, self.constant([0, 96, 32])]),
            nn.ReLU: lambda _, x: self.add("Relu", [x]),
            nn.Hardswish: lambda _, x: self.add("HardSwish", [x]),
            nn.AdaptiveAvgPool2d: lambda _, x: self.add("GlobalAveragePool", [x]),
            nn.Flatten: lambda _, x: self.add("Flatten", [x]),
        }
        return layers[type(module)](module, x)


def as_onnx(network: nn.Module) -> Model:
    writer = Writer()
    last = writer.module(network, "image")
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 10])]
    graph = helper.make_graph(writer.nodes, "network", inputs, outputs, writer.initializers)
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


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
