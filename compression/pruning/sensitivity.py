"""Taylor's criterion on the engine: what the loss would lose with a unit, to second order, without labels."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compression.engine import Engine
from compression.kernels import importance
from compression.measure.fidelity import is_decision
from compression.model import Model
from compression.pruning.evidence import Evidence

Floats = npt.NDArray[np.float64]
BATCH = 16
_LEAST = 1e-12


def squared_gradients(evidence: Evidence) -> dict[str, Floats]:
    """Mean over batches of (sum w dL/dw)^2 of the weights that read a unit (Molchanov et al. 2019,
    arXiv:1906.10771). L is the loss on labels drawn from the model's own outputs, whose squared gradients
    are the Fisher information; of outputs that are no classes, their product with random numbers.

    Errors: CompressionError `engine_unsupported`.
    """
    looked = evidence.looked
    found = {group.name: np.zeros(group.size) for group in looked.groups}
    engine = Engine.from_model(Model(looked.model)).eval()
    generator = torch.Generator().manual_seed(evidence.seed)
    for batch in _batches(evidence):
        engine.zero_grad()
        loss = _drawn(engine(batch), generator)
        loss.backward()  # type: ignore[no-untyped-call]
        values = engine.values()
        for group in looked.groups:
            found[group.name] += (
                sum(
                    importance.of_units(_products(values[one.tensor], one.axis), one.indices)
                    for one in group.contracted
                )
                ** 2
            )
    return found


def _batches(evidence: Evidence) -> Iterator[Mapping[str, Tensor]]:
    inputs = Model(evidence.looked.model).inputs
    batches = evidence.split.batches(inputs, BATCH)
    for _, feeds in zip(range(0, evidence.samples, BATCH), batches, strict=False):
        yield {name: torch.tensor(value) for name, value in feeds.items()}  # a copy: data may be read-only


def _products(weight: Tensor, axis: int) -> Floats:
    if weight.grad is None:
        return np.zeros(weight.shape[axis])
    return importance.taylor(weight.detach().numpy(), weight.grad.numpy(), axis)


def _drawn(outputs: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """A sum over samples."""
    losses = []
    for value in (value for value in outputs.values() if value.is_floating_point()):
        array = value.detach().numpy()
        if is_decision(array):
            shares = array.min() >= 0 and np.allclose(array.sum(-1), 1, atol=1e-2)
            scores = (value.clamp_min(_LEAST).log() if shares else value).log_softmax(-1).flatten(0, -2)
            labels = torch.multinomial(scores.detach().exp(), 1, generator=generator)
            losses.append(-scores.gather(1, labels).sum())
        else:
            signs = torch.randn(value.shape, generator=generator)
            losses.append((value * signs).sum() / value.detach().std().clamp_min(1e-6))
    return torch.stack(losses).sum()
