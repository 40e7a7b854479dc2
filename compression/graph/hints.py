"""Hints: attention maps of hidden tensors as further outputs, for a student to learn from (Zagoruyko and
Komodakis 2017, arXiv:1612.03928).

The map of a tensor is its energy at each position, summed over the channels. It is the same size however many
channels there are: nothing has to be learnt to compare two networks (as FitNets' projections have), and it is
small enough to be kept for every sample.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.errors import CompressionError
from compression.graph import inspection
from compression.graph.channels import recording
from compression.runtime import Array

WEIGHT = 1.0
"""Of a hint, relative to the loss between outputs."""
_FEWEST = 4
"""Positions of a map that says anything."""
_MOVES = {"Pad", "Slice", "Expand", "Transpose", "Reshape", "Resize", "Squeeze", "Unsqueeze", "Cast", "Split"}
"""Operators that prepare a tensor for another and compute nothing."""
Shape = tuple[int, ...]


class Hint(NamedTuple):
    """Tensors of two networks whose maps are to agree."""

    teacher: str
    student: str
    weight: float = WEIGHT


class Maps:
    """Of a network, as one sample shows them."""

    def __init__(self, model: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
        self.model = model
        self._shapes = recording.shapes(recording.hoisted(model), feeds)

    def shape(self, tensor: str) -> Shape | None:
        """Without the axis of samples; None where the tensor has none, or too small a map."""
        shape = self._shapes.get(tensor, ())
        if len(shape) not in {3, 4}:
            return None
        positions = tuple(size for at, size in enumerate(shape) if at not in {0, _channels(shape)})
        return positions if np.prod(positions) >= _FEWEST else None

    def ends(self) -> dict[Shape, str]:
        """The last tensor of every size of map: where the network's stages end."""
        made = (node for node in self.model.graph.node if node.op_type not in _MOVES)
        sizes = {node.output[0]: self.shape(node.output[0]) for node in made}
        return {size: name for name, size in sizes.items() if size is not None}

    def with_outputs(self, tensors: Sequence[str]) -> onnx.ModelProto:
        """The network with the map of each of these as `hint_0`, `hint_1`, … behind its outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for name, tensor in zip(names(len(tensors)), tensors, strict=True):
            _energy(model, tensor, name, _channels(self._shapes[tensor]))
        return model


def without_outputs(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The network without the maps again."""
    plain, graph = onnx.ModelProto(), model.graph
    plain.CopyFrom(model)
    made = set(names(count))
    parts = {f"{name}_{part}" for name in made for part in ("axes", "wide")}
    plain.graph.ClearField("node")
    plain.graph.node.extend(node for node in graph.node if node.output[0] not in made | parts)
    plain.graph.ClearField("output")
    plain.graph.output.extend(value for value in graph.output if value.name not in made)
    plain.graph.ClearField("initializer")
    plain.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name not in parts)
    return plain


def names(count: int) -> list[str]:
    return [f"hint_{at}" for at in range(count)]


def matching(teacher: Maps, student: Maps) -> list[Hint]:
    """The ends of stages, where both networks have a map of the same size."""
    ends, own = teacher.ends(), student.ends()
    return [Hint(ends[size], own[size]) for size in ends if size in own]


def check(wanted: Sequence[Hint], teacher: Maps, student: Maps) -> None:
    """Errors: CompressionError `unfit_hint`."""
    for hint in wanted:
        sizes = teacher.shape(hint.teacher), student.shape(hint.student)
        if None in sizes or sizes[0] != sizes[1]:
            raise CompressionError(
                "unfit_hint",
                f"{hint.teacher!r} of the teacher and {hint.student!r} of the student have no maps of the "
                f"same size: {_told(sizes[0])} and {_told(sizes[1])}",
            )


def _told(size: Shape | None) -> str:
    return "none" if size is None else str(list(size))


def _channels(shape: Shape) -> int:
    """[samples, channels, height, width], or [samples, positions, channels]."""
    return 1 if len(shape) == 4 else 2


def _energy(model: onnx.ModelProto, tensor: str, name: str, axis: int) -> None:
    """In float32: the squares of half-precision numbers may be too large for them."""
    graph, wide = model.graph, f"{name}_wide"
    graph.node.append(helper.make_node("Cast", [tensor], [wide], wide, to=onnx.TensorProto.FLOAT))
    node = helper.make_node("ReduceSumSquare", [wide], [name], name, keepdims=0)
    if inspection.opset(model) >= 18:
        node.input.append(f"{name}_axes")
        graph.initializer.append(numpy_helper.from_array(np.array([axis]), node.input[1]))
    else:
        node.attribute.append(helper.make_attribute("axes", [axis]))
    graph.node.append(node)
    graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
