"""The networks of the engine's benchmark: as plain torch modules, and the same written as ONNX."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compression.model import Model


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
