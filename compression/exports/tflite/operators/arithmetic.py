"""Sums and products of two tensors, in the order of axes that the first computed one has."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.operators.table import always, operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import Order, natural


@operator("Add", int8=always, fuses=True)
def add(step: Step) -> None:
    _binary(step, "ADD", schema.AddOptionsT(fusedActivationFunction=step.fused))


@operator("Sub", int8=always, fuses=True)
def sub(step: Step) -> None:
    _binary(step, "SUB", schema.SubOptionsT(fusedActivationFunction=step.fused))


@operator("Mul", int8=always, fuses=True)
def mul(step: Step) -> None:
    _binary(step, "MUL", schema.MulOptionsT(fusedActivationFunction=step.fused))


@operator("Div", fuses=True)
def div(step: Step) -> None:
    _binary(step, "DIV", schema.DivOptionsT(fusedActivationFunction=step.fused))


@operator("Pow")
def power(step: Step) -> None:
    _binary(step, "POW", schema.PowOptionsT())


@operator("Max", "Min")
def extreme(step: Step) -> None:
    if len(step.node.input) != 2:
        raise Refused("it has other than two inputs")
    kind = "MAXIMUM" if step.node.op_type == "Max" else "MINIMUM"
    _binary(step, kind, schema.MaximumMinimumOptionsT())


def _binary(step: Step, kind: str, options: object) -> None:
    order = _common(step)
    sides = [_side(step, at, order) for at in range(2)]
    step.run(kind, sides, step.write(order), options)


def _common(step: Step) -> Order:
    """That of the first computed side; the graph's own where a computed side has fewer axes."""
    rank = len(step.target)
    computed = [at for at in range(2) if step.source.constant(step.node.input[at]) is None]
    if any(len(step.dims(at)) != rank for at in computed):
        return natural(rank)
    return step.order(computed[0]) if computed else natural(rank)


def _side(step: Step, at: int, order: Order) -> int:
    """Numbers that are stored are laid out here and not by the runtime."""
    array = step.source.constant(step.node.input[at])
    rank = len(step.dims(at))
    if array is None or step.int8:
        return step.read(at, order if rank == len(order) else natural(rank))
    full = array.reshape((1,) * (len(order) - rank) + array.shape)
    return step.program.constant(np.ascontiguousarray(full.transpose(order)))
