"""Normalisations."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.convert import torch_dtype
from compression.engine.graph import Node
from compression.engine.operators.table import Context, Kernel, operator


@operator("BatchNormalization", contextual=True)
def batch_normalization(node: Node) -> Kernel:
    """In train mode with the batch's statistics, and the running ones move. (A graph exported in training
    mode returns them as outputs instead.)
    """
    epsilon, momentum = node.number("epsilon", 1e-5), node.number("momentum", 0.9)
    exported_training = node.flag("training_mode")

    def kernel(
        context: Context, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
    ) -> Any:
        if exported_training:
            return _training_outputs(x, (scale, bias, mean, variance), epsilon, momentum)
        batch = context.training and not context.frozen_statistics
        return functional.batch_norm(x, mean, variance, scale, bias, batch, 1 - momentum, epsilon)

    return kernel


def _training_outputs(
    x: Tensor, given: tuple[Tensor, ...], epsilon: float, momentum: float
) -> tuple[Tensor, ...]:
    scale, bias, mean, variance = given
    dims = [dim for dim in range(x.dim()) if dim != 1]
    batch_mean, batch_variance = x.mean(dims), x.var(dims, unbiased=False)
    y = functional.batch_norm(x, batch_mean, batch_variance, scale, bias, False, 0.0, epsilon)
    running = [
        old * momentum + new * (1 - momentum) for old, new in ((mean, batch_mean), (variance, batch_variance))
    ]
    return y, running[0].to(mean.dtype), running[1].to(variance.dtype)


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Kernel:
    epsilon = node.number("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return functional.group_norm(x, x.shape[1], scale, bias, epsilon)

    return kernel


@operator("GroupNormalization")
def group_normalization(node: Node) -> Kernel:
    """Scale and bias are per group before opset 21, per channel since."""
    groups, epsilon = node.integer("num_groups", 1), node.number("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        repeats = x.shape[1] // scale.shape[0]
        if repeats > 1:
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return kernel


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Kernel:
    axis, epsilon = node.integer("axis", -1), node.number("epsilon", 1e-5)
    stash = torch_dtype(node.integer("stash_type", 1))

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        shape = x.shape[axis % x.dim() :]
        if len(node.outputs) == 1 and scale.shape == shape:
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        dims = list(range(axis % x.dim(), x.dim()))
        wide = x.to(stash)
        mean = wide.mean(dims, keepdim=True)
        deviation = wide - mean
        inverse = torch.rsqrt((deviation * deviation).mean(dims, keepdim=True) + epsilon)
        y = (deviation * inverse).to(x.dtype) * scale
        return y if bias is None else y + bias, mean, inverse

    return kernel


@operator("RMSNormalization")
def rms_normalization(node: Node) -> Kernel:
    axis, epsilon = node.integer("axis", -1), node.number("epsilon", 1e-5)
    stash = torch_dtype(node.integer("stash_type", 1))

    def kernel(x: Tensor, scale: Tensor) -> Tensor:
        dims = list(range(axis % x.dim(), x.dim()))
        wide = x.to(stash)
        inverse = torch.rsqrt((wide * wide).mean(dims, keepdim=True) + epsilon)
        return (wide * inverse).to(x.dtype) * scale

    return kernel


@operator("LRN")
def lrn(node: Node) -> Kernel:
    size, alpha = node.integer("size"), node.number("alpha", 0.0001)
    beta, bias = node.number("beta", 0.75), node.number("bias", 1.0)

    def kernel(x: Tensor) -> Tensor:
        squares = functional.pad((x * x).movedim(1, -1), [(size - 1) // 2, size // 2])
        total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return x / (bias + alpha / size * total) ** beta

    return kernel


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Kernel:
    axes = node.ints("axes") or [0, 2, 3]

    def kernel(x: Tensor) -> Tensor:
        deviation = x - x.mean(axes, keepdim=True)
        return deviation / ((deviation * deviation).mean(axes, keepdim=True).sqrt() + 1e-9)

    return kernel
