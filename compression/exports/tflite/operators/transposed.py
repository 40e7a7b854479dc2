"""Convolutions that enlarge an image by a stride s, written as a convolution to s x s times the channels and
a DepthToSpace: TFLite's own kernel wants the size of the batch in the file.

Output row p * s + i sums x[p - t] * w[i + t * s]: one convolution for each i (sub-pixel; Shi et al.,
arXiv:1609.07009).
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.dataset import Array
from compression.exports.tflite import windows
from compression.exports.tflite.operators.table import operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import channels_last

_ORDER = channels_last(4)


@operator("ConvTranspose", data=1)
def conv_transpose(step: Step) -> None:
    weight, stride = step.constant(1), _stride(step)
    taps = [-(-size // stride) for size in weight.shape[2:]]
    borders = [(0, 0), *((count - 1, count - 1) for count in taps), (0, 0)]
    source = windows.pad(step, step.read(0, _ORDER), borders, 0.0)
    numbers = [
        step.program.constant(_phases(weight, stride, taps)),
        step.program.constant(np.tile(_bias(step, weight.shape[1]), stride**2)),
    ]
    phases = _sized(step, source, [1 - count for count in taps], 1, stride**2 * weight.shape[1])
    options = schema.Conv2DOptionsT(padding=schema.Padding.VALID, strideH=1, strideW=1)
    step.run("CONV_2D", [source, *numbers], phases, options)
    whole = _sized(step, phases, [0, 0], stride, weight.shape[1])
    step.run("DEPTH_TO_SPACE", [phases], whole, schema.DepthToSpaceOptionsT(blockSize=stride))
    _cut(step, whole, [count * stride - size for count, size in zip(taps, weight.shape[2:], strict=True)])


def _stride(step: Step) -> int:
    """Errors: Refused of what is not written so."""
    strides = set(step.attribute("strides") or [1])
    plain = step.attribute("group", 1) == 1 and set(step.attribute("dilations") or [1]) == {1}
    fixed = step.attribute("output_shape") is None and step.attribute("auto_pad", b"NOTSET") == b"NOTSET"
    if step.rank != 4 or len(strides) > 1 or not (plain and fixed):
        raise Refused("it has groups, dilations, two strides, a size of its own, or other than two axes")
    return int(strides.pop())


def _phases(weight: Array, stride: int, taps: list[int]) -> Array:
    """[input, output, height, width] to [stride * stride * output, taps, taps, input]."""
    inputs, outputs, *kernel = weight.shape
    rows, columns = taps
    whole = np.zeros((inputs, outputs, rows * stride, columns * stride), np.float32)
    whole[:, :, : kernel[0], : kernel[1]] = weight
    parts = whole.reshape(inputs, outputs, rows, stride, columns, stride)[:, :, ::-1, :, ::-1]
    return np.ascontiguousarray(parts.transpose(3, 5, 1, 2, 4, 0)).reshape(-1, rows, columns, inputs)


def _bias(step: Step, outputs: int) -> Array:
    return step.constant(2).reshape(-1) if step.has(2) else np.zeros(outputs, np.float32)


def _sized(step: Step, like: int, more: list[int], times: int, channels: int) -> int:
    """A tensor on the way whose height and width are so much more, and then so many times more."""
    batch, *image, _ = step.program.kind(like).dims
    sizes = [
        None if size is None else (size + extra) * times for size, extra in zip(image, more, strict=True)
    ]
    return step.between((batch, *sizes, channels), like)


def _cut(step: Step, whole: int, beyond: list[int]) -> None:
    """What lies beyond the last window, and the borders, are cut off."""
    pads = step.attribute("pads") or [0] * 4
    added = step.attribute("output_padding") or [0, 0]
    ends = [extra + end - more for extra, end, more in zip(beyond, pads[2:], added, strict=True)]
    if min(ends) < 0:
        raise Refused("its output goes beyond the last window")
    begin, end = [0, *pads[:2], 0], [0, *(-size for size in ends), 0]
    mask = sum(1 << at for at, size in enumerate(end) if not size)
    inputs = [whole, *(step.integer_constant(values) for values in (begin, end, [1] * 4))]
    step.run("STRIDED_SLICE", inputs, step.write(_ORDER), schema.StridedSliceOptionsT(endMask=mask))
