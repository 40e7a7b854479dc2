"""Students: a smaller network made from a larger one, or another that is given its interface."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import onnx

from compression import runtime
from compression.errors import CompressionError, ErrorKind
from compression.graph import blocks, channels, interface, tensors, walk
from compression.graph.channels import recording
from compression.graph.index import Index
from compression.graph.influence import influence
from compression.inspection import TensorSpec
from compression.interchange import misfit, paired
from compression.kernels import importance

Feeds = Mapping[str, runtime.Array]
MULTIPLE = 8
"""Channels are kept in multiples of it, where there are as many: kernels take so many at once."""


def derive(
    model: onnx.ModelProto, samples: Sequence[Feeds], width: float, depth: float
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with this share of its residual blocks, and of the channels of what is left; what was left
    out and what was kept, as JSON. `samples` are feeds of one sample each.

    Errors: CompressionError `no_student` where nothing can be removed.
    """
    details: dict[str, Any] = {}
    if depth < 1:
        model, details["dropped"] = shallow(model, samples, depth)
    if width < 1:
        model, details["kept"] = narrow(model, samples[0], width)
    return model, details


def shallow(
    model: onnx.ModelProto, samples: Sequence[Feeds], depth: float
) -> tuple[onnx.ModelProto, list[str]]:
    """The network with this share of the residual blocks that can be left out, and the names of the others:
    those that turn what they get the least (Men et al. 2024, arXiv:2403.03853).

    Errors: CompressionError `no_student` where there are none.
    """
    shapes = recording.shapes(recording.hoisted(model), samples[0])
    found = blocks.find(model.graph, shapes)
    wanted = len(found) - round(len(found) * depth)
    if not wanted:
        raise no_student(f"{len(found)} residual blocks cannot be reduced to a depth of {depth:g}")
    turned = influence(model, {block.name: block.skip for block in found}, samples)
    dropped: list[str] = []
    for name in sorted(turned, key=turned.__getitem__):
        left = {block.name: block for block in blocks.find(model.graph, shapes)}
        if len(dropped) < wanted and name in left:
            model = blocks.drop(model, left[name])
            dropped.append(name)
    return model, dropped


def narrow(model: onnx.ModelProto, feeds: Feeds, width: float) -> tuple[onnx.ModelProto, channels.Kept]:
    """The network with this share of every group of channels, and which: those with the largest weights.

    Errors: CompressionError `no_student` where no channel can be removed.
    """
    found = channels.find(model, feeds)
    kept = {
        group.name: _largest(found, group, units)
        for group in found.groups
        if (units := _units(group.size, width)) < group.size
    }
    if not kept:
        raise no_student(f"no channels of the network can be reduced to a width of {width:g}")
    return channels.cut(found, kept), kept


def no_student(reason: str) -> CompressionError:
    return CompressionError("no_student", f"{reason}: upload a student", ErrorKind.UNSUPPORTED)


def _units(size: int, width: float) -> int:
    wanted = size * width
    return MULTIPLE * round(wanted / MULTIPLE) if wanted >= MULTIPLE else max(1, round(wanted))


def _largest(found: channels.Channels, group: channels.Group, units: int) -> list[int]:
    """By the norms of the weights that make a unit, every layer with one voice."""
    index = Index(found.model.graph)
    parts = []
    for member in group.produced:
        weight = index.constant(member.tensor)
        if weight is not None and weight.ndim > 1:
            parts.append(importance.of_units(importance.norms(weight, member.axis, 2), member.indices))
    scores = importance.combined(parts, group.size)
    return [int(unit) for unit in np.sort(np.argsort(-scores, kind="stable")[:units])]


def stand_in(other: onnx.ModelProto, model: onnx.ModelProto, part: str = "student") -> onnx.ModelProto:
    """The other network with the names of inputs and outputs, and all that is declared of them, that the
    model has. `part` is what it is called in errors.

    Errors: CompressionError `student_misfit` (or of another part) where types or shapes differ.
    """
    wanted, own = _declared(model), _declared(other)
    reason = misfit(wanted, own)
    if reason:
        raise CompressionError(f"{part}_misfit", f"the {part} cannot take the model's place: {reason}")
    pairs = [*paired(wanted.inputs, own.inputs), *paired(wanted.outputs, own.outputs)]
    renamed = onnx.ModelProto()
    renamed.CopyFrom(other)
    _rename(renamed.graph, {old.name: new.name for new, old in pairs if old.name != new.name})
    interface.restore(renamed, model)
    return renamed


class _Declared(NamedTuple):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def _declared(model: onnx.ModelProto) -> _Declared:
    return _Declared(tensors.inputs(model.graph), tensors.outputs(model.graph))


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Whatever else has one of the new names gives it up."""
    taken = _names(graph)
    fresh = (name for at in count() if (name := f"student_{at}") not in taken)
    names = {**{name: next(fresh) for name in sorted(taken & set(names.values()) - set(names))}, **names}
    for scope in walk.graphs(graph):
        for value in (*scope.input, *scope.output, *scope.value_info, *scope.initializer):
            value.name = names.get(value.name, value.name)
        for node in scope.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def _names(graph: onnx.GraphProto) -> set[str]:
    found: set[str] = set()
    for scope in walk.graphs(graph):
        found |= {value.name for value in (*scope.input, *scope.initializer)}
        found |= {name for node in scope.node for name in node.output}
    return found - {""}
