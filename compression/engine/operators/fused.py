"""Operators that no file holds: what the peephole puts in the place of several."""

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.arithmetic import widened
from compression.engine.operators.table import Kernel, operator

DOMAIN = "engine"


@operator("Linear", domain=DOMAIN)
def linear(_node: Node) -> Kernel:
    """x w + b."""

    @widened
    def kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if weight.dim() == 2 and x.dim() > 1 and bias.shape == weight.shape[1:] and bias.is_floating_point():
            return functional.linear(x, weight.t(), bias)
        return torch.matmul(x, weight) + bias

    return kernel


@operator("Attention", domain=DOMAIN)
def attention(node: Node) -> Kernel:
    """softmax(scale q k + mask) v, with k already transposed."""
    scale, axis = node.number("scale", 1.0), node.integer("axis", -1)

    def kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        if alike and query.dim() in {3, 4} and axis % query.dim() == query.dim() - 1:
            turned = key.transpose(-1, -2)
            return functional.scaled_dot_product_attention(query, turned, value, mask, scale=scale)
        scores = torch.matmul(query * scale, key)
        scores = scores if mask is None else scores + mask
        return torch.matmul(torch.softmax(scores, axis), value)

    return kernel
