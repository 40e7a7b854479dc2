"""Operators that make tensors from numbers, sizes and chance."""

import math

import torch
from torch import Tensor

from compression.engine.convert import torch_dtype
from compression.engine.graph import Node
from compression.engine.operators.table import Context, Kernel, ints, operator, unsupported

_CONSTANTS = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


@operator("Constant")
def constant(node: Node) -> Kernel:
    """Numbers; a tensor as `value` is held with the initializers and is no node here."""
    for name, dtype in _CONSTANTS.items():
        if name in node.attributes:
            value = torch.tensor(node.attributes[name], dtype=dtype)
            return lambda: value
    raise unsupported(node, "a constant of strings or a sparse one")


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node) -> Kernel:
    value: Tensor = node.attributes.get("value", torch.zeros(1)).reshape(())
    return lambda shape: value.expand(ints(shape)).clone()


@operator("Range", host=(0, 1, 2))
def range_(_node: Node) -> Kernel:
    def kernel(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, step = start.item(), delta.item()
        count = max(math.ceil((limit.item() - first) / step), 0)
        return torch.arange(count, dtype=start.dtype) * step + first if count else start.new_empty(0)

    return lambda *bounds: kernel(*bounds).to(bounds[0].dtype)


@operator("EyeLike")
def eye_like(node: Node) -> Kernel:
    k = node.integer("k")
    dtype = torch_dtype(node.integer("dtype")) if "dtype" in node.attributes else None

    def kernel(x: Tensor) -> Tensor:
        rows, columns = torch.arange(x.shape[0])[:, None], torch.arange(x.shape[1])[None]
        return (columns - rows == k).to(device=x.device, dtype=dtype or x.dtype)

    return kernel


@operator("RandomNormal", "RandomUniform")
def random(node: Node) -> Kernel:
    shape = node.ints("shape") or []
    return lambda: _draw(node, torch.empty(shape, dtype=torch_dtype(node.integer("dtype", 1))))


@operator("RandomNormalLike", "RandomUniformLike")
def random_like(node: Node) -> Kernel:
    dtype = torch_dtype(node.integer("dtype")) if "dtype" in node.attributes else None
    return lambda x: _draw(node, torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device))


def _draw(node: Node, empty: Tensor) -> Tensor:
    if "Normal" in node.op_type:
        return empty.normal_(node.number("mean"), node.number("scale", 1.0))
    return empty.uniform_(node.number("low"), node.number("high", 1.0))


@operator("Bernoulli")
def bernoulli(node: Node) -> Kernel:
    dtype = torch_dtype(node.integer("dtype")) if "dtype" in node.attributes else None
    return lambda x: torch.bernoulli(x).to(dtype or x.dtype)


@operator("Dropout", contextual=True)
def dropout(node: Node) -> Kernel:
    """Drops in train mode, whatever `training_mode` was exported as; else the identity."""
    fixed = node.number("ratio", 0.5)

    def kernel(
        context: Context, x: Tensor, ratio: Tensor | None = None, mode: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        share = fixed if ratio is None else float(ratio.item())
        always = mode is not None and bool(mode.item())
        if share == 0 or not (context.training or always):
            return x, torch.ones_like(x, dtype=torch.bool) if len(node.outputs) > 1 else x
        mask = torch.rand(x.shape, device=x.device) >= share
        return x * mask / (1 - share), mask

    return kernel


@operator("HannWindow", "HammingWindow", "BlackmanWindow", host=(0,))
def window(node: Node) -> Kernel:
    weights = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }
    a, b, c = weights[node.op_type]
    dtype, periodic = torch_dtype(node.integer("output_datatype", 1)), node.flag("periodic", 1)

    def kernel(size: Tensor) -> Tensor:
        count = int(size.item())
        angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / (count if periodic else count - 1))
        return (a - b * torch.cos(angle) + c * torch.cos(2 * angle)).to(dtype)

    return kernel
