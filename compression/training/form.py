"""What the numbers of an output are, told by the node that makes it and by values on some samples."""

from enum import StrEnum

import numpy as np
from torch import Tensor, logit

from compression.dataset import Array
from compression.graph.ending import GATES

_SMALLEST = 1e-30
"""Below the smallest probability that training can tell from 0; its inverse is still a float32."""
_EDGE = 1e-7


class Form(StrEnum):
    LOGITS = "logits"
    LOG_PROBABILITIES = "log_probabilities"
    PROBABILITIES = "probabilities"
    INDEPENDENT = "independent"
    """Probabilities that do not exclude each other, as a sigmoid gives."""


def form_of(output: Array, axis: int, last: str = "") -> Form:
    """Of an output with its classes along `axis`, made by operator `last`. To sum to one over the classes on
    all samples is no accident.
    """
    values = np.nan_to_num(output.astype(np.float64))
    if values.min(initial=0) >= 0 and np.allclose(values.sum(axis), 1, atol=1e-2):
        return Form.PROBABILITIES if output.shape[axis] > 1 else Form.INDEPENDENT
    if values.max(initial=-1) <= 1e-3 and np.allclose(np.exp(values).sum(axis), 1, atol=1e-2):
        return Form.LOG_PROBABILITIES
    return Form.INDEPENDENT if last in GATES else Form.LOGITS


def logits(output: Tensor, form: Form) -> Tensor:
    """Of probabilities their logarithm, which softmax turns into themselves again; of independent ones the
    inverse of the sigmoid.
    """
    output = output.float()
    match form:
        case Form.PROBABILITIES:
            return output.clamp_min(_SMALLEST).log()
        case Form.INDEPENDENT:
            return logit(output, _EDGE)
        case Form.LOGITS | Form.LOG_PROBABILITIES:
            return output
