"""Losses that graphs exported for training hold."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(node: Node) -> Kernel:
    return _nll(node)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(node: Node) -> Kernel:
    nll = _nll(node)

    def kernel(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Any:
        log_probabilities = torch.log_softmax(scores, 1)
        return nll(log_probabilities, labels, weight), log_probabilities

    return kernel


def _nll(node: Node) -> Kernel:
    reduction, ignored = node.text("reduction", "mean"), node.integer("ignore_index", -100)

    def kernel(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return functional.nll_loss(
            scores, labels.to(torch.int64), weight, ignore_index=ignored, reduction=reduction
        )

    return kernel
