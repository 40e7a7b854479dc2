"""One operator of the graph on its way into the file: its inputs as wanted, its output where it belongs.

It becomes an int8 operator where every input of data lies behind a DequantizeLinear and only QuantizeLinears
read its output: then it reads and writes codes. Otherwise it computes in floats.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from compression.dataset import Array
from compression.exports.tflite.program import Dims, Kind, Refused
from compression.exports.tflite.quantization import Quantization
from compression.exports.tflite.writer import Order, Writer
from compression.graph import walk


class Step:
    def __init__(self, writer: Writer, node: onnx.NodeProto, activation: onnx.NodeProto | None) -> None:
        """`activation` follows the operator in the graph and is done by its kernel."""
        self.node, self.writer, self.program = node, writer, writer.program
        self.source = writer.source
        self.outputs = list(activation.output if activation is not None else node.output)
        self.activation = fused(activation, self.source.index.scalar) if activation is not None else "NONE"
        self.int8 = False
        """Decided by the table before the operator is written."""

    @property
    def fused(self) -> int:
        """For options of kernels that end with an activation."""
        return int(getattr(schema.ActivationFunctionType, self.activation))

    def attribute(self, name: str, default: Any = None) -> Any:
        return walk.attribute(self.node, name, default)

    def has(self, at: int) -> bool:
        return len(self.node.input) > at and bool(self.node.input[at])

    def dims(self, at: int = 0) -> Dims:
        return self.source.dims(self.node.input[at])

    @property
    def rank(self) -> int:
        return len(self.dims())

    @property
    def target(self) -> Dims:
        """Of the first output."""
        return self.source.dims(self.outputs[0])

    def constant(self, at: int) -> Array:
        """Errors: Refused where the input is computed."""
        array = self.source.constant(self.node.input[at])
        if array is None:
            raise Refused(f"its input {at} is no constant")
        return array

    def integers(self, at: int, attribute: str = "") -> list[int] | None:
        """An input of newer operator sets that was an attribute once; None where it is left out."""
        if self.has(at):
            return [int(value) for value in self.constant(at).reshape(-1)]
        found = self.attribute(attribute) if attribute else None
        return None if found is None else [int(value) for value in found]

    def grid(self, at: int = 0) -> Quantization | None:
        """Of an input that is read as codes."""
        return self.source.grid_before(self.node.input[at]) if self.int8 else None

    def order(self, at: int = 0) -> Order:
        return self.writer.value(self._name(at)).order

    def read(self, at: int, order: Order) -> int:
        return self.writer.stored(self._name(at), order)

    def write(self, order: Order, *, grid: Quantization | None = None, at: int = 0) -> int:
        """An output tensor; of int8, on this grid or else the graph's."""
        name = self.outputs[at]
        grid = (grid or self.source.grid_after(name)) if self.int8 else None
        dtype = "int8" if self.int8 else self.source.dtype(name)
        return self.writer.define(name, Kind(self.source.dims(name), dtype, grid), order)

    def read_on_target(self, at: int, order: Order) -> int:
        """The input, in int8 on the grid of the output."""
        grid = self.source.grid_after(self.outputs[0]) if self.int8 else None
        if grid is None:
            return self.read(at, order)
        moved = f"{self.outputs[0]}:{at}"
        self.writer.regrid(moved, self._name(at), grid)
        return self.writer.stored(moved, order)

    def rename(self, axes: Order) -> None:
        """The output is the first input with its axes in this order."""
        self.writer.rename(self.outputs[0], self._name(0), axes)

    def assign(self, tensor: int, order: Order) -> None:
        """The output is a tensor that was written on the way."""
        self.writer.assign(self.outputs[0], tensor, order)

    def between(self, dims: Dims, like: int) -> int:
        """A tensor on the way, of the kind of another."""
        kind = self.program.kind(like)
        return self.program.tensor(Kind(dims, kind.dtype, kind.grid))

    def middle(
        self, kind: str, inputs: Sequence[int], options: object = None, dims: Dims | None = None
    ) -> int:
        """A result on the way, of the kind of the first input and, unless it is told, of its size."""
        source = inputs[0]
        target = self.between(self.program.kind(source).dims if dims is None else dims, source)
        self.run(kind, inputs, target, options)
        return target

    def run(self, kind: str, inputs: Sequence[int], output: int, options: object = None) -> None:
        self.program.operator(kind, inputs, [output], options)

    def integer_constant(self, values: Any) -> int:
        return self.program.constant(np.array(values, np.int32))

    def _name(self, at: int) -> str:
        name = self.node.input[at]
        return self.writer.behind(name) if self.int8 else name


def fused(node: onnx.NodeProto, scalar: Callable[[str], float | None]) -> str:
    """What the schema calls an activation that kernels may end with; "" of any other."""
    if node.op_type == "Relu":
        return "RELU"
    if node.op_type != "Clip":
        return ""
    bounds = [scalar(name) if name else None for name in (*node.input[1:], "", "")[:2]]
    for at, name in enumerate(("min", "max")):
        found: Any = walk.attribute(node, name)
        bounds[at] = found if bounds[at] is None else bounds[at]
    return _CLIPS.get((bounds[0], bounds[1]), "")


_CLIPS: dict[tuple[float | None, float | None], str] = {
    (0.0, 6.0): "RELU6",
    (0.0, None): "RELU",
    (-1.0, 1.0): "RELU_N1_TO_1",
}
