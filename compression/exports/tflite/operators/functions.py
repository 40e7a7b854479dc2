"""Functions of one tensor: they keep whatever order of axes it has."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.operators.table import always, operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.quantization import Quantization
from compression.exports.tflite.step import Step, fused
from compression.exports.tflite.writer import natural

_UNARY = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "Log": "LOG",
    "Neg": "NEG",
    "Sin": "SIN",
    "Sqrt": "SQRT",
}
_HALF_LINE = Quantization.of(1 / 256, -128)
_BOTH_SIDES = Quantization.of(1 / 128, 0)
"""Grids on which the kernels of functions with fixed ranges write."""


@operator(*_UNARY)
def unary(step: Step) -> None:
    _keep(step, _UNARY[step.node.op_type])


@operator("Relu", int8=always)
def relu(step: Step) -> None:
    _keep(step, "RELU")


@operator("HardSwish", int8=always)
def hard_swish(step: Step) -> None:
    _keep(step, "HARD_SWISH", schema.HardSwishOptionsT())


@operator("LeakyRelu", int8=always)
def leaky_relu(step: Step) -> None:
    _keep(step, "LEAKY_RELU", schema.LeakyReluOptionsT(alpha=step.attribute("alpha", 0.01)))


@operator("Elu")
def elu(step: Step) -> None:
    if step.attribute("alpha", 1.0) != 1.0:
        raise Refused("alpha is not 1")
    _keep(step, "ELU")


@operator("Gelu")
def gelu(step: Step) -> None:
    approximate = step.attribute("approximate", b"none") == b"tanh"
    _keep(step, "GELU", schema.GeluOptionsT(approximate=approximate))


@operator("Sigmoid", int8=always)
def sigmoid(step: Step) -> None:
    _keep(step, "LOGISTIC", grid=_HALF_LINE)


@operator("Tanh", int8=always)
def tanh(step: Step) -> None:
    _keep(step, "TANH", grid=_BOTH_SIDES)


@operator("Softmax", int8=always)
def softmax(step: Step) -> None:
    _along_last(step, "SOFTMAX", schema.SoftmaxOptionsT(beta=1.0))


@operator("LogSoftmax")
def log_softmax(step: Step) -> None:
    _along_last(step, "LOG_SOFTMAX", schema.LogSoftmaxOptionsT())


def _along_last(step: Step, kind: str, options: object) -> None:
    old = step.source.opset < 13
    axis = step.attribute("axis", 1 if old else -1) % step.rank
    if old and axis != step.rank - 1:
        raise Refused("before operator set 13 it flattens its input")
    order = (*(place for place in natural(step.rank) if place != axis), axis)
    step.run(kind, [step.read(0, order)], step.write(order, grid=_HALF_LINE), options)


def _keep(step: Step, kind: str, options: object = None, grid: Quantization | None = None) -> None:
    order = step.order()
    step.run(kind, [step.read(0, order)], step.write(order, grid=grid), options)


@operator("Clip", data=1)
def clip(step: Step) -> None:
    order = step.order()
    source = step.read(0, order)
    if known := fused(step.node, step.source.index.scalar):
        step.run(known, [source], step.write(order))
        return
    bounds = [_bound(step, 1, "min"), _bound(step, 2, "max")]
    kinds = [
        (kind, bound) for kind, bound in zip(("MAXIMUM", "MINIMUM"), bounds, strict=True) if bound is not None
    ]
    if not kinds:
        raise Refused("it has no bounds")
    for at, (kind, bound) in enumerate(kinds):
        last = at == len(kinds) - 1
        target = step.write(order) if last else step.between(step.program.kind(source).dims, source)
        step.run(kind, [source, step.program.constant(bound)], target, schema.MaximumMinimumOptionsT())
        source = target


def _bound(step: Step, at: int, attribute: str) -> Any:
    value = step.constant(at) if step.has(at) else step.attribute(attribute)
    return None if value is None else np.asarray(value, step.source.dtype(step.node.input[0]))


@operator("HardSigmoid")
def hard_sigmoid(step: Step) -> None:
    """max(0, min(1, alpha * x + beta))"""
    order = step.order()
    alpha, beta, one = (
        step.program.constant(np.array(value, np.float32))
        for value in (step.attribute("alpha", 0.2), step.attribute("beta", 0.5), 1.0)
    )
    positive = schema.AddOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU)
    scaled = step.middle("MUL", [step.read(0, order), alpha], schema.MulOptionsT())
    shifted = step.middle("ADD", [scaled, beta], positive)
    step.run("MINIMUM", [shifted, one], step.write(order), schema.MaximumMinimumOptionsT())


@operator("Cast")
def cast(step: Step) -> None:
    order = step.order()
    step.run("CAST", [step.read(0, order)], step.write(order), schema.CastOptionsT())
