"""Operators that move numbers without changing them; their kernels write on the grid they read from."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite import windows
from compression.exports.tflite.operators.table import always, operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import channels_last, natural


@operator("Identity", "Dropout", int8=always, data=1)
def identity(step: Step) -> None:
    step.rename(natural(step.rank))


@operator("Transpose", int8=always)
def transpose(step: Step) -> None:
    step.rename(tuple(step.attribute("perm", reversed(range(step.rank)))))


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze", int8=always, data=1)
def reshape(step: Step) -> None:
    """Errors: Refused of an output with two open axes, between which TFLite cannot tell."""
    dims = step.target
    if dims.count(None) > 1:
        raise Refused("two axes of its output are open")
    shape = [-1 if size is None else size for size in dims]
    inputs = [step.read(0, natural(step.rank)), step.integer_constant(shape)]
    output = step.write(natural(len(dims)), grid=step.grid())
    step.run("RESHAPE", inputs, output, schema.ReshapeOptionsT(newShape=shape))


@operator("Concat", int8=always)
def concat(step: Step) -> None:
    """In int8 all parts are brought to the grid of the output."""
    order = step.order()
    axis = step.attribute("axis") % step.rank
    parts = [step.read_on_target(at, order) for at in range(len(step.node.input))]
    options = schema.ConcatenationOptionsT(axis=order.index(axis))
    step.run("CONCATENATION", parts, step.write(order), options)


@operator("Pad", int8=always, data=1)
def pad(step: Step) -> None:
    if step.attribute("mode", b"constant") != b"constant" or (step.has(3) and step.constant(3).size):
        raise Refused("it pads by other than a constant, or names its axes")
    pads = step.integers(1, "pads") or []
    if min(pads, default=0) < 0:
        raise Refused("it cuts off")
    fill = float(step.constant(2).item()) if step.has(2) else float(step.attribute("value", 0.0))
    order = step.order()
    borders = [(pads[axis], pads[axis + step.rank]) for axis in order]
    step.assign(windows.pad(step, step.read(0, order), borders, fill), order)


@operator("DepthToSpace", int8=always)
def depth_to_space(step: Step) -> None:
    if step.attribute("mode", b"DCR") != b"DCR":
        raise Refused("mode CRD")
    order = channels_last(4)
    options = schema.DepthToSpaceOptionsT(blockSize=step.attribute("blocksize"))
    step.run("DEPTH_TO_SPACE", [step.read(0, order)], step.write(order, grid=step.grid()), options)


@operator("Split", int8=always, data=1)
def split(step: Step) -> None:
    order = step.order()
    axis = step.attribute("axis", 0) % step.rank
    sizes = [step.source.dims(name)[axis] for name in step.outputs]
    if None in sizes:
        raise Refused("it splits an open axis")
    parts = [step.write(order, grid=step.grid(), at=at) for at in range(len(sizes))]
    inputs = [
        step.read(0, order),
        step.integer_constant(sizes),
        step.integer_constant(np.array(order.index(axis))),
    ]
    step.program.operator("SPLIT_V", inputs, parts, schema.SplitVOptionsT(numSplits=len(parts)))


@operator("Slice", int8=always, data=1)
def slice_(step: Step) -> None:
    starts, ends = step.integers(1, "starts") or [], step.integers(2, "ends") or []
    axes = step.integers(3, "axes") or list(range(len(starts)))
    steps = step.integers(4) or [1] * len(starts)
    if min(steps, default=1) < 1:
        raise Refused("it goes backwards")
    order = step.order()
    begin, end, strides = ([value] * step.rank for value in (0, 0, 1))
    begin_mask = end_mask = (1 << step.rank) - 1
    for axis, start, stop, stride in zip(axes, starts, ends, steps, strict=True):
        place = order.index(axis % step.rank)
        limit = np.iinfo(np.int32).max
        begin[place], end[place] = max(start, -limit), min(max(stop, -limit), limit)
        strides[place] = stride
        begin_mask, end_mask = begin_mask & ~(1 << place), end_mask & ~(1 << place)
    options = schema.StridedSliceOptionsT(beginMask=begin_mask, endMask=end_mask)
    inputs = [step.read(0, order), *(step.integer_constant(values) for values in (begin, end, strides))]
    step.run("STRIDED_SLICE", inputs, step.write(order, grid=step.grid()), options)


@operator("Gather")
def gather(step: Step) -> None:
    axis = step.attribute("axis", 0) % step.rank
    table = step.read(0, natural(step.rank))
    step.run(
        "GATHER",
        [table, _indices(step, axis)],
        step.write(natural(len(step.target))),
        schema.GatherOptionsT(axis=axis),
    )


def _indices(step: Step, axis: int) -> int:
    """Those that count from the end are counted from the start. Errors: Refused where the end is open."""
    stored, size = step.source.constant(step.node.input[1]), step.dims()[axis]
    if stored is None or stored.min(initial=0) >= 0:
        return step.read(1, natural(len(step.dims(1))))
    if size is None:
        raise Refused("it counts from the end of an open axis")
    return step.integer_constant(stored % size)
