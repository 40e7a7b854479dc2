"""Convolutions and matrix products with a stored weight; products of two computed matrices."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.dataset import Array
from compression.exports.tflite import windows
from compression.exports.tflite.operators.table import operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.weights import bias, codes, takes_codes, weight
from compression.exports.tflite.writer import natural


@operator("Conv", int8=takes_codes, data=1, fuses=True)
def conv(step: Step) -> None:
    outputs, inputs, *kernel = step.dims(1)
    if outputs is None or inputs is None or None in kernel:
        raise Refused("its weight is no constant")
    window = windows.of(step, [size for size in kernel if size is not None])
    image, policy = windows.bordered(step, windows.read(step), window)
    groups = step.attribute("group", 1)
    if depthwise := groups > 1 and inputs == 1:
        numbers = [weight(step, _depthwise, 3), bias(step, outputs)]
    else:
        numbers = [weight(step, _convolution, 0), bias(step, outputs)]
    options = _depthwise_options(outputs // groups) if depthwise else schema.Conv2DOptionsT()
    options.padding, options.fusedActivationFunction = policy, step.fused
    options.strideH, options.strideW = window.strides
    options.dilationHFactor, options.dilationWFactor = window.dilations
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    windows.write(step, kind, [image, *numbers], options)


def _convolution(array: Array) -> Array:
    """[output, input, height, width] to [output, height, width, input]."""
    return _with_height(array).transpose(0, 2, 3, 1)


def _depthwise(array: Array) -> Array:
    """[output, 1, height, width] to [1, height, width, output]."""
    return _with_height(array).transpose(1, 2, 3, 0)


def _with_height(array: Array) -> Array:
    return array if array.ndim == 4 else array[:, :, None]


def _depthwise_options(multiplier: int) -> schema.DepthwiseConv2DOptionsT:
    return schema.DepthwiseConv2DOptionsT(depthMultiplier=multiplier)


@operator("Gemm", int8=takes_codes, data=1, fuses=True)
def gemm(step: Step) -> None:
    if step.attribute("transA", 0):
        raise Refused("its input is transposed")
    transposed, factor = bool(step.attribute("transB", 0)), step.attribute("alpha", 1.0)

    def layout(array: Array) -> Array:
        scaled = array if factor == 1.0 else array * np.float32(factor)
        return scaled if transposed else scaled.T

    if factor != 1.0 and codes(step) is not None:
        raise Refused("its int8 weight is scaled by alpha")
    _fully_connected(step, weight(step, layout, 0), step.attribute("beta", 1.0))


@operator("MatMul", int8=takes_codes, data=1, fuses=True)
def matmul(step: Step) -> None:
    if step.source.constant(step.node.input[1]) is not None and len(step.dims(1)) == 2:
        _fully_connected(step, weight(step, np.transpose, 0), 1.0)
        return
    if min(len(step.dims(at)) for at in range(2)) < 2:
        raise Refused("it multiplies a vector")
    sides = [step.read(at, natural(len(step.dims(at)))) for at in range(2)]
    options, order = schema.BatchMatMulOptionsT(), natural(len(step.target))
    if step.activation == "NONE":
        step.run("BATCH_MATMUL", sides, step.write(order), options)
        return
    product = step.middle("BATCH_MATMUL", sides, options, step.target)
    step.run(step.activation, [product], step.write(order))


def _fully_connected(step: Step, weights: int, beta: float) -> None:
    outputs = step.program.kind(weights).dims[0]
    if outputs is None:
        raise Refused("its weight is no constant")
    numbers = [weights, bias(step, outputs, beta)]
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=step.fused, keepNumDims=step.rank > 2)
    source = step.read(0, natural(step.rank))
    step.run("FULLY_CONNECTED", [source, *numbers], step.write(natural(len(step.target))), options)
