"""Images of another size."""

from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.operators.table import always, operator
from compression.exports.tflite.program import Dims, Refused
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import channels_last

_ORDER = channels_last(4)
_LINEAR = {
    "half_pixel": (False, True),
    "pytorch_half_pixel": (False, True),
    "align_corners": (True, False),
    "asymmetric": (False, False),
}
"""Whether corners are aligned, and whether centres of pixels are halves."""


@operator("Resize", "Upsample", int8=always, data=1)
def resize(step: Step) -> None:
    target = step.target
    if step.rank != 4 or target[:2] != step.dims()[:2]:
        raise Refused("it resizes other than height and width")
    if None in target[2:]:
        _repeat(step)
        return
    kind, options = _sampling(step, target)
    inputs = [step.read(0, _ORDER), step.integer_constant(target[2:])]
    step.run(kind, inputs, step.write(_ORDER, grid=step.grid()), options)


def _sampling(step: Step, target: Dims) -> tuple[str, object]:
    """Errors: Refused of ways to choose source pixels that TFLite has not."""
    mode, way, rounding = _ways(step)
    if mode == "linear" and not step.attribute("antialias", 0) and way in _LINEAR:
        align, half = _LINEAR[way]
        return "RESIZE_BILINEAR", schema.ResizeBilinearOptionsT(alignCorners=align, halfPixelCenters=half)
    sizes = zip(step.dims()[2:], target[2:], strict=True)
    whole = all(one and other and other % one == 0 for one, other in sizes)
    if _floors(mode, way, rounding, whole=whole):
        return "RESIZE_NEAREST_NEIGHBOR", schema.ResizeNearestNeighborOptionsT()
    raise Refused(f"mode {mode}, {way}, {rounding}")


def _ways(step: Step) -> tuple[str, str, str]:
    """How pixels are mixed, where they lie, and which is the nearest."""
    mode = bytes(step.attribute("mode", b"nearest")).decode()
    if step.node.op_type == "Upsample" or step.source.opset < 11:
        return mode, "asymmetric", "floor"
    way = bytes(step.attribute("coordinate_transformation_mode", b"half_pixel")).decode()
    return mode, way, bytes(step.attribute("nearest_mode", b"round_prefer_floor")).decode()


def _floors(mode: str, way: str, rounding: str, *, whole: bool) -> bool:
    """Whether pixel i comes from floor(i * source / target); where each is repeated a whole number of times,
    other ways come to the same.
    """
    if mode != "nearest":
        return False
    if way == "asymmetric" and rounding == "floor":
        return True
    return whole and way in {"half_pixel", "pytorch_half_pixel"} and rounding.startswith("round")


def _repeat(step: Step) -> None:
    """An image of open size, by a factor: copies side by side in the channels, spread out."""
    scales = step.constant(min(2, len(step.node.input) - 1)).reshape(-1)
    factor = int(scales[-1]) if scales.size == 4 else 0
    if factor < 1 or list(scales) != [1, 1, factor, factor] or not _floors(*_ways(step), whole=True):
        raise Refused("it resizes an image of open size by other than repeating pixels")
    source = step.read(0, _ORDER)
    batch, height, width, channels = step.program.kind(source).dims
    if channels is None:
        raise Refused("its channels are open")
    copies = step.between((batch, height, width, channels * factor**2), source)
    step.run("CONCATENATION", [source] * factor**2, copies, schema.ConcatenationOptionsT(axis=3))
    options = schema.DepthToSpaceOptionsT(blockSize=factor)
    step.run("DEPTH_TO_SPACE", [copies], step.write(_ORDER, grid=step.grid()), options)
