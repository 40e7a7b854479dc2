"""Tensors of the graph in the file: in which orders of axes they lie there, and on which grid.

ONNX keeps channels before the image, TFLite after it. So a tensor may lie in another order of axes than the
graph has it, in several even; what reads it names the order it wants, and only then is it transposed. A
Transpose of the graph is a new name for the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compression.exports.tflite.program import Kind, Program, Refused
from compression.exports.tflite.quantization import Quantization
from compression.exports.tflite.source import Source

Order = tuple[int, ...]
"""The axis of the graph that lies at each place."""


def natural(rank: int) -> Order:
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    return (0, *range(2, rank), 1)


def arranged(items: Sequence[Any], order: Order) -> tuple[Any, ...]:
    return tuple(items[axis] for axis in order)


@dataclass
class Value:
    kind: Kind
    """In the graph's order of axes."""
    forms: dict[Order, int]
    """Numbers of the tensors that hold it; never empty."""

    @property
    def order(self) -> Order:
        """The one it came in."""
        return next(iter(self.forms))

    def in_order(self, order: Order) -> Kind:
        return replace(self.kind, dims=arranged(self.kind.dims, order))


class Writer:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.program = Program()
        self._values: dict[str, Value] = {}

    def value(self, name: str) -> Value:
        """A tensor of the graph. Constants, and floats from their codes, are written when asked for.

        Errors: Refused.
        """
        if name not in self._values:
            self._enter(name)
        return self._values[name]

    def define(self, name: str, kind: Kind, order: Order) -> int:
        """A new tensor for what the graph calls so; `kind` is in the graph's order of axes."""
        number = self.program.tensor(replace(kind, dims=arranged(kind.dims, order)))
        self._values[name] = Value(kind, {order: number})
        return number

    def assign(self, name: str, number: int, order: Order) -> None:
        """What the graph calls so was written already, in this order."""
        kind = self.program.kind(number)
        places = tuple(order.index(axis) for axis in range(len(order)))
        self._values[name] = Value(replace(kind, dims=arranged(kind.dims, places)), {order: number})

    def stored(self, name: str, order: Order) -> int:
        """The tensor with its axes in this order."""
        value = self.value(name)
        if order not in value.forms:
            moves = tuple(value.order.index(axis) for axis in order)
            value.forms[order] = self._transposed(value.forms[value.order], value.in_order(order), moves)
        return value.forms[order]

    def copied(self, number: int) -> int:
        kind = self.program.kind(number)
        return self._transposed(number, kind, natural(len(kind.dims)))

    def _transposed(self, number: int, kind: Kind, moves: Order) -> int:
        target = self.program.tensor(kind)
        self.program.operator(
            "TRANSPOSE", [number, self.program.constant(np.array(moves, np.int32))], [target]
        )
        return target

    def rename(self, name: str, source: str, axes: Order) -> None:
        """The same tensor with its axes taken in another order, which costs nothing."""
        value = self.value(source)
        forms = {tuple(axes.index(axis) for axis in order): number for order, number in value.forms.items()}
        self._values[name] = Value(value.in_order(axes), forms)

    def regrid(self, name: str, source: str, grid: Quantization | None) -> None:
        """Floats to codes, codes to floats, codes to other codes; nothing where they are so already."""
        value = self.value(source)
        if value.kind.grid is grid or (grid and value.kind.grid and grid.same(value.kind.grid)):
            self._values[name] = value
            return
        kind = Kind(value.kind.dims, "float32" if grid is None else "int8", grid)
        target = self.define(name, kind, value.order)
        operator = "DEQUANTIZE" if grid is None else "QUANTIZE"
        self.program.operator(operator, [value.forms[value.order]], [target])

    def behind(self, name: str) -> str:
        """The codes from which a DequantizeLinear makes the tensor; else the tensor itself."""
        codes = self.source.before_dequantize(name)
        if codes is None:
            return name
        if codes not in self._values and (constant := self.source.codes(name)) is not None:
            self._constant(codes, *constant)
        return codes

    def _enter(self, name: str) -> None:
        codes = self.behind(name)
        array = self.source.constant(name)
        if codes in self._values:
            self.regrid(name, codes, None)
        elif array is not None:
            self._constant(name, array, None)
        else:
            raise Refused(f"reads {name!r}, which TFLite has not")

    def _constant(self, name: str, array: Any, grid: Quantization | None) -> None:
        order = natural(array.ndim)
        number = self.program.constant(array, grid)
        self._values[name] = Value(self.program.kind(number), {order: number})
