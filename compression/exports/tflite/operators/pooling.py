"""Windows that take the largest or the mean, and means over whole axes."""

from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite import windows
from compression.exports.tflite.operators.table import always, operator
from compression.exports.tflite.program import Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.windows import Window
from compression.exports.tflite.writer import Order, channels_last


@operator("MaxPool", int8=always)
def max_pool(step: Step) -> None:
    _pool(step, "MAX_POOL_2D", float("-inf"))


@operator("AveragePool", int8=always)
def average_pool(step: Step) -> None:
    _pool(step, "AVERAGE_POOL_2D", 0.0)


def _pool(step: Step, kind: str, fill: float) -> None:
    """Its kernels write on the grid they read from."""
    if len(step.node.output) > 1:
        raise Refused("it tells where the largest were")
    window = windows.of(step, step.attribute("kernel_shape"))
    if window.dilations != (1, 1):
        raise Refused("its window is dilated")
    source = windows.read(step)
    if kind == "AVERAGE_POOL_2D":
        image, policy = _averaged(step, source, window)
    else:
        image, policy = windows.bordered(step, source, window, fill)
    options = schema.Pool2DOptionsT(padding=policy)
    options.strideH, options.strideW = window.strides
    options.filterHeight, options.filterWidth = window.kernel
    windows.write(step, kind, [image], options, step.grid())


def _averaged(step: Step, source: int, window: Window) -> tuple[int, int]:
    """TFLite's policy SAME leaves borders out of the mean."""
    if window.bare:
        return source, schema.Padding.VALID
    if step.attribute("count_include_pad", 0):
        if step.attribute("ceil_mode", 0):
            raise Refused("it counts borders but not what rounding its size up adds to them")
        borders = [(0, 0), *zip(window.before, window.after, strict=True), (0, 0)]
        return windows.pad(step, source, borders, 0.0), schema.Padding.VALID
    if windows.fits_same(window, step.program.kind(source).dims[1:3]):
        return source, schema.Padding.SAME
    raise Refused("it leaves borders out of the mean that policy SAME does not make")


@operator("GlobalAveragePool", int8=always)
def global_average_pool(step: Step) -> None:
    _reduce(step, "MEAN", list(range(2, step.rank)), channels_last(step.rank))


@operator("GlobalMaxPool")
def global_max_pool(step: Step) -> None:
    _reduce(step, "REDUCE_MAX", list(range(2, step.rank)), channels_last(step.rank))


@operator("ReduceMean", int8=always, data=1)
def mean(step: Step) -> None:
    _reduce(step, "MEAN", _axes(step), step.order())


@operator("ReduceSum", "ReduceMax", "ReduceMin", data=1)
def reduction(step: Step) -> None:
    kinds = {"ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN"}
    _reduce(step, kinds[step.node.op_type], _axes(step), step.order())


def _axes(step: Step) -> list[int]:
    axes = step.integers(1, "axes")
    if not axes:
        if step.attribute("noop_with_empty_axes", 0):
            raise Refused("it reduces nothing")
        return list(range(step.rank))
    return [axis % step.rank for axis in axes]


def _reduce(step: Step, kind: str, axes: list[int], order: Order) -> None:
    keep = bool(step.attribute("keepdims", 1))
    places = [order.index(axis) for axis in axes]
    left = order if keep else _left(order, axes)
    inputs = [step.read(0, order), step.integer_constant(places)]
    step.run(kind, inputs, step.write(left), schema.ReducerOptionsT(keepDims=keep))


def _left(order: Order, axes: list[int]) -> Order:
    """The order of what remains without the axes."""
    rest = [axis for axis in order if axis not in axes]
    return tuple(sorted(rest).index(axis) for axis in rest)
