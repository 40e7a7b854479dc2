"""What an error in a layer's output does to the outputs of the network."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from compression import padding
from compression.engine import Engine
from compression.factorization.layers import Layer
from compression.factorization.observation import Samples
from compression.kernels.low_rank import Floats
from compression.model import Model
from compression.training.repeatable import repeatable

SAMPLES, BATCH = 64, 8
_LEAST = 1e-3
"""Of the mean, for outputs that few samples reach."""


def sensitivities(model: Model, layers: Sequence[Layer], samples: Samples) -> Mapping[str, Floats]:
    """By weight, for each output [outputs] of a layer: the noise of what counts of the network's outputs, as
    a share of their energy, for each unit of energy that an error has there at every position.

    Gradients of the product of the outputs with random numbers, squared, are in expectation those of each
    output squared and summed (Hutchinson's estimator). Errors of positions are taken as independent.

    Errors: CompressionError `engine_unsupported`.
    """
    made = [layer.node.output[0] for layer in layers]
    engine = Engine.from_model(model, [*made, *(spec.name for spec in model.outputs)]).eval()
    generator = torch.Generator().manual_seed(samples.seed)
    sums = {layer.weight: np.zeros(layer.outputs) for layer in layers}
    size = samples.split.batch_size(model.inputs, BATCH)
    runs = -(-min(SAMPLES, samples.split.n) // size)
    with repeatable(samples.threads):
        for _, feeds in zip(range(runs), samples.split.batches(model.inputs, BATCH), strict=False):
            values = engine({name: torch.tensor(value) for name, value in feeds.items()})
            counting = [padding.judged(values[spec.name], feeds, samples.task) for spec in model.outputs]
            product = _drawn(counting, generator)
            found = torch.autograd.grad(product, [values[name] for name in made], allow_unused=True)
            for layer, gradient in zip(layers, found, strict=True):
                sums[layer.weight] += _squares(gradient, layer) / runs
    return {name: _floored(total) for name, total in sums.items()}


def _drawn(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """With the same say for each output, however large it is."""
    floats = [value for value in outputs if value.is_floating_point()]
    total = torch.zeros(())
    for value in floats:
        signs = torch.randn(value.shape, generator=generator)
        size = value.detach().norm().clamp_min(torch.finfo(value.dtype).tiny)
        total = total + (value * signs).sum() / size
    return total / math.sqrt(max(len(floats), 1))


def _squares(gradient: Tensor | None, layer: Layer) -> Floats:
    """Summed over all but the layer's outputs."""
    if gradient is None:
        return np.zeros(layer.outputs)
    moved = gradient.movedim(1, -1) if layer.convolves else gradient
    squares = moved.reshape(-1, layer.outputs).double().square().sum(0)
    return np.asarray(squares.numpy())


def _floored(squares: Floats) -> Floats:
    return squares + _LEAST * float(squares.mean()) + float(np.finfo(np.float64).tiny)
