"""Normalizations, written as the sums and products that they are."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.operators.table import operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import natural


@operator("BatchNormalization", data=1)
def batch_normalization(step: Step) -> None:
    """A factor and a summand for each channel."""
    scale, shift, mean, variance = (step.constant(at).astype(np.float64) for at in range(1, 5))
    factor = scale / np.sqrt(variance + step.attribute("epsilon", 1e-5))
    order = step.order()
    shape = [1] * step.rank
    shape[order.index(1)] = factor.size
    numbers = [
        step.program.constant(values.astype(np.float32).reshape(shape))
        for values in (factor, shift - mean * factor)
    ]
    scaled = step.middle("MUL", [step.read(0, order), numbers[0]], schema.MulOptionsT())
    step.run("ADD", [scaled, numbers[1]], step.write(order), schema.AddOptionsT())


@operator("LayerNormalization", data=1)
def layer_normalization(step: Step) -> None:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift, over the last axes."""
    if len([name for name in step.node.output if name]) > 1:
        raise Refused("its mean or deviation is asked for")
    order, first = natural(step.rank), step.attribute("axis", -1) % step.rank
    source, axes = step.read(0, order), step.integer_constant(order[first:])
    dims = tuple(1 if at >= first else size for at, size in enumerate(step.dims()))
    keep, product = schema.ReducerOptionsT(keepDims=True), schema.MulOptionsT()
    mean = step.middle("MEAN", [source, axes], keep, dims)
    centred = step.middle("SUB", [source, mean], schema.SubOptionsT())
    squares = step.middle("MUL", [centred, centred], product)
    variance = step.middle("MEAN", [squares, axes], keep, dims)
    epsilon = step.program.constant(np.array(step.attribute("epsilon", 1e-5), np.float32))
    inverse = step.middle("RSQRT", [step.middle("ADD", [variance, epsilon], schema.AddOptionsT())])
    normal = step.middle("MUL", [centred, inverse], product)
    scaled = step.middle("MUL", [normal, step.program.constant(step.constant(1))], product)
    shift = step.constant(2) if step.has(2) else np.zeros(1, np.float32)
    step.run("ADD", [scaled, step.program.constant(shift)], step.write(order), schema.AddOptionsT())
