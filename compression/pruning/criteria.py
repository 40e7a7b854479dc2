"""Criteria: how much each unit of a group matters to the network."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from compression.graph.channels import Group, Member
from compression.graph.index import Index
from compression.kernels import importance
from compression.kernels.redundancy import Sum, marginal_losses
from compression.pruning.evidence import Evidence
from compression.pruning.sensitivity import squared_gradients

Criterion = Literal["reconstruction", "l1", "l2", "taylor", "activation_mean", "apoz", "bn_scale", "random"]
Floats = npt.NDArray[np.float64]
ABSOLUTE = frozenset({"reconstruction", "taylor"})
"""Their scores are losses: those of several groups may be compared as they are."""


def scores(criterion: Criterion, evidence: Evidence) -> dict[str, Floats]:
    """By group, higher matters more; a group that the criterion can say nothing about is absent. Scores that
    are not absolute are relative to their group's mean.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    if criterion == "taylor":
        return squared_gradients(evidence)
    found = {group.name: _RULES[criterion](evidence, group) for group in evidence.looked.groups}
    return {name: values for name, values in found.items() if values is not None}


def _norm(order: int) -> "Rule":
    """Of all weights that make or read a unit: each layer has one voice."""

    def rule(evidence: Evidence, group: Group) -> Floats:
        parts = [
            importance.of_units(importance.norms(evidence.weights[one.tensor], one.axis, order), one.indices)
            for one in _weights(evidence, group)
        ]
        return importance.combined(parts, group.size)

    return rule


def _weights(evidence: Evidence, group: Group) -> list[Member]:
    return [one for one in (*group.produced, *group.contracted) if one.tensor in evidence.weights]


def _magnitude(evidence: Evidence, group: Group) -> Floats | None:
    """Mean |activation| (Polyak and Wolf 2015)."""
    return _activity([(one, seen.magnitude / seen.count) for one, seen in evidence.read(group)], group)


def _active(evidence: Evidence, group: Group) -> Floats | None:
    """How often it is not zero: one less its average percentage of zeros (Hu et al. 2016,
    arXiv:1607.03250).
    """
    return _activity([(one, seen.active / seen.count) for one, seen in evidence.read(group)], group)


def _activity(parts: list[tuple[Member, Floats]], group: Group) -> Floats | None:
    if not parts:
        return None
    return importance.combined(
        [importance.of_units(values, one.indices) for one, values in parts], group.size
    )


def _bn_scale(evidence: Evidence, group: Group) -> Floats | None:
    """|gamma| (Liu et al. 2017, arXiv:1708.06519)."""
    index = Index(evidence.looked.model.graph)
    scales = {node.input[1] for node in index.graph.node if node.op_type == "BatchNormalization"}
    parts = [(one, np.abs(evidence.weights[one.tensor])) for one in group.members if one.tensor in scales]
    return _activity(parts, group)


def _random(evidence: Evidence, group: Group) -> Floats:
    return np.random.default_rng([evidence.seed, *group.name.encode()]).random(group.size)


def _reconstruction(evidence: Evidence, group: Group) -> Floats | None:
    """What the outputs of the layers that read a unit lose, at best, when the other units take over."""
    sums = []
    for member, seen in evidence.read(group):
        if seen.second is None:
            return None
        rows = np.moveaxis(evidence.weights[member.tensor].astype(np.float64), member.axis, 0)
        sums.append(Sum(seen.second, rows.reshape(len(rows), -1), member.indices))
    return marginal_losses(sums, group.size) if sums else None


Rule = Callable[[Evidence, Group], Floats | None]
_RULES: Mapping[str, Rule] = {
    "reconstruction": _reconstruction,
    "l1": _norm(1),
    "l2": _norm(2),
    "activation_mean": _magnitude,
    "apoz": _active,
    "bn_scale": _bn_scale,
    "random": _random,
}
