"""Clusters that stay together while a network is trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.kernels.clustering import shared


@dataclass(frozen=True)
class Members:
    """Of one weight: the cluster of every number, the first number of every cluster, and how many it has."""

    clusters: Tensor
    first: Tensor
    counts: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> "Members":
        values, clusters, counts = torch.unique(weight.detach(), return_inverse=True, return_counts=True)
        flat = clusters.flatten()
        places = torch.arange(flat.numel() - 1, -1, -1, device=flat.device)
        first = torch.empty(len(values), dtype=torch.long, device=flat.device)
        first[flat.flip(0)] = places
        return cls(flat, first, counts)

    def mean(self, gradient: Tensor) -> Tensor:
        """For every number the mean gradient of its cluster."""
        sums = torch.bincount(self.clusters, gradient.flatten().double(), len(self.counts))
        return (sums / self.counts).to(gradient.dtype)[self.clusters].view(gradient.shape)

    def joined(self, weight: Tensor) -> Tensor:
        """Every number as the first of its cluster."""
        return weight.flatten()[self.first][self.clusters].view(weight.shape)


class HeldClusters:
    """Equal weights stay equal; an extension of the training loop.

    The gradient of a centroid is the sum over its members (Han et al. 2016, arXiv:1510.00149). Here each
    member gets its share of it, the mean: that is the gradient of the weights, projected onto what clusters
    allow, so that learning rates and clipping mean what they mean without clusters. Equal weights that get
    equal gradients are moved alike by every optimizer.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._held = [(weight, Members.of(weight)) for weight in weights]
        for weight, members in self._held:
            weight.register_hook(members.mean)  # type: ignore[no-untyped-call]

    def before_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_step(self, step: int, steps: int) -> None:
        """Nothing."""

    def after_training(self) -> None:
        """Equal to the last bit: vectorised arithmetic may round its last few numbers otherwise."""
        with torch.no_grad():
            for weight, members in self._held:
                weight.copy_(members.joined(weight))

    def state(self) -> Mapping[str, Tensor]:
        """Nothing: the clusters are those of the model."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""


def clustered(weights: Iterable[Tensor]) -> list[Tensor]:
    """Those in which few values stand for many weights."""
    return [weight for weight in weights if shared(weight.detach().cpu().numpy())]
