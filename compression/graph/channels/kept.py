"""Which units stay, and what becomes of every axis."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compression.errors import CompressionError
from compression.graph import macs, weights
from compression.graph.channels.groups import Channels
from compression.graph.shapes import Shape

Kept = Mapping[str, Sequence[int]]
"""Units that stay, by name of their group. Groups that are not named stay whole."""
Mask = npt.NDArray[np.bool_]
Masks = Mapping[str, Mapping[int, Mask]]
"""Slices that stay, by tensor and axis; only axes that lose some."""


def masks(channels: Channels, kept: Kept) -> Masks:
    """Errors: CompressionError `unknown_group`, `empty_group`."""
    groups = {group.name: group for group in channels.groups}
    found: dict[str, dict[int, Mask]] = {}
    for name, units in kept.items():
        if name not in groups or not set(units) <= set(range(groups[name].size)):
            raise CompressionError("unknown_group", f"the model has no such channels as {name!r} of `kept`")
        if not units:
            raise CompressionError("empty_group", f"nothing would be left of the channels of {name!r}")
        gone = np.setdiff1d(np.arange(groups[name].size), np.asarray(units))
        for member in groups[name].members if len(gone) else ():
            size = channels.shapes[member.tensor][member.axis]
            mask = found.setdefault(member.tensor, {}).setdefault(member.axis, np.ones(size, bool))
            mask[member.indices[gone].ravel()] = False
    return found


def sizes(channels: Channels, masks: Masks) -> dict[str, tuple[int, ...]]:
    """Shapes of one sample after the cut."""
    after = dict(channels.shapes)
    for name, axes in masks.items():
        shape = list(after[name])
        for axis, mask in axes.items():
            shape[axis] = int(mask.sum())
        after[name] = tuple(shape)
    return after


def cost(channels: Channels, kept: Kept) -> tuple[int | None, int]:
    """Multiply-accumulates of one sample (None where they cannot be told), and parameters, after the cut."""
    after = sizes(channels, masks(channels, kept))
    graph = channels.model.graph
    known = {name: Shape(0, shape) for name, shape in after.items()}
    params = sum(
        int(np.prod(after[tensor.name])) for tensor in weights.weights(graph) if tensor.name in after
    )
    return macs.count(graph.node, known), params
