"""Groups: slices that can be removed from a graph, unit by unit, and nothing but size changes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from compression.graph.channels import recording, rules
from compression.graph.channels.extents import Entry, follow
from compression.graph.channels.slices import FROZEN, Ids
from compression.graph.channels.tracer import Tracer
from compression.runtime import Array

__all__ = ["Channels", "Group", "Member", "find", "rules"]


@dataclass(frozen=True, eq=False)
class Member:
    """An axis of a tensor that a group runs through."""

    tensor: str
    axis: int
    indices: Ids
    """[units, slices of the axis that a unit has]."""


@dataclass(frozen=True, eq=False)
class Group:
    """Units are alike: a channel, a neuron, an attention head, a group of a grouped convolution."""

    name: str
    """Of the first weight that makes them; with a number where it makes several groups."""
    members: tuple[Member, ...]
    produced: tuple[Member, ...]
    """Axes of weights that make the units."""
    contracted: tuple[Member, ...]
    """Axes of weights that sum over the units: zeros there are as good as a cut."""

    @cached_property
    def size(self) -> int:
        """Units."""
        return len(self.members[0].indices)


@dataclass(frozen=True, eq=False)
class Channels:
    """A graph looked through once, by `find`."""

    model: onnx.ModelProto
    """A copy without Constant nodes."""
    groups: tuple[Group, ...]
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor, for one sample."""
    entries: Mapping[str, Sequence[Entry]]
    """Of shapes that the graph computes."""


def find(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Channels:
    """The groups of a graph, told by the operators' semantics and by the shapes that one sample shows: sizes
    of its dynamic axes do not matter. Whatever no rule is known for stays as it is.

    Errors: CompressionError E_MODEL_RUN.
    """
    hoisted = recording.hoisted(model)
    shapes = recording.shapes(hoisted, feeds)
    tracer = Tracer(hoisted, shapes)
    entries = follow(tracer, hoisted.graph)
    tracer.settle()
    return Channels(hoisted, tuple(_groups(tracer)), shapes, entries)


def _groups(tracer: Tracer) -> list[Group]:
    labels = tracer.slices.labels()
    removable = _marked(tracer, labels, tracer.produced) & _marked(tracer, labels, tracer.contracted)
    removable[FROZEN] = False
    slices = np.flatnonzero(removable[labels])
    slices = slices[np.argsort(labels[slices], kind="stable")]
    units = np.split(slices, np.flatnonzero(np.diff(labels[slices])) + 1) if len(slices) else []
    owner, places = _owners(tracer, len(labels))
    alike: dict[bytes, list[Ids]] = defaultdict(list)
    for unit in units:
        own = unit[owner[unit] >= 0]
        alike[owner[own].tobytes()].append(own)
    used: dict[str, int] = defaultdict(int)
    return [_group(tracer, np.stack(same), owner, places, used) for same in alike.values()]


def _marked(tracer: Tracer, labels: Ids, axes: Sequence[tuple[str, int]]) -> Array:
    """Which sets have a slice of these axes."""
    marks = np.zeros(len(labels), bool)
    for name, axis in axes:
        marks[labels[tracer.axes(name)[axis]]] = True
    return marks


def _owners(tracer: Tracer, count: int) -> tuple[Ids, list[tuple[str, int]]]:
    """The axis of each slice, as a number; -1 for the slices that no tensor has."""
    owner = np.full(count, -1, np.int64)
    places: list[tuple[str, int]] = []
    for name in tracer.shapes:
        for axis, ids in enumerate(tracer.axes(name)):
            owner[ids] = len(places)
            places.append((name, axis))
    return owner, places


def _group(
    tracer: Tracer, units: Ids, owner: Ids, places: Sequence[tuple[str, int]], used: dict[str, int]
) -> Group:
    """`units`: [units, slices], each row the same axes in the same order."""
    axes = owner[units[0]]
    members = []
    for number in dict.fromkeys(axes.tolist()):
        name, axis = places[number]
        members.append(Member(name, axis, units[:, axes == number] - tracer.axes(name)[axis][0]))
    produced, contracted = (
        tuple(member for member in members if (member.tensor, member.axis) in marked)
        for marked in (tracer.produced, tracer.contracted)
    )
    name = produced[0].tensor
    used[name] += 1
    unique = name if used[name] == 1 else f"{name}:{used[name]}"
    return Group(unique, tuple(members), produced, contracted)
