"""Where a window over an image begins and ends: ONNX names each border, TFLite two policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.program import Dims, Refused
from compression.exports.tflite.quantization import Quantization
from compression.exports.tflite.step import Step
from compression.exports.tflite.writer import channels_last


@dataclass(frozen=True)
class Window:
    """Along height and width."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    """Rows and columns around the image."""

    @property
    def bare(self) -> bool:
        """Whether nothing lies around the image: TFLite's policy VALID."""
        return not any((*self.before, *self.after))


def of(step: Step, kernel: Sequence[int]) -> Window:
    """Over one axis it is a window over an image of height 1.

    Errors: Refused of windows over more axes, and of borders that depend on an open axis.
    """
    lift = 2 - len(kernel)
    if lift not in (0, 1):
        raise Refused(f"its window has {len(kernel)} axes")
    strides, dilations = (
        _pair(step.attribute(name) or [1] * len(kernel), 1) for name in ("strides", "dilations")
    )
    size = _pair(kernel, 1)
    reach = [(one - 1) * apart + 1 for one, apart in zip(size, dilations, strict=True)]
    before, after = _borders(step, reach, strides)
    return Window(size, strides, dilations, before, after)


def _pair(values: Sequence[Any], first: Any) -> tuple[Any, Any]:
    """For height and width."""
    return (first, values[0]) if len(values) == 1 else (values[0], values[1])


def _borders(step: Step, reach: Sequence[int], strides: Sequence[int]) -> tuple[Any, Any]:
    policy = bytes(step.attribute("auto_pad", b"NOTSET"))
    if policy == b"VALID":
        return (0, 0), (0, 0)
    image = _pair(step.dims()[2:], 1)
    if policy == b"NOTSET":
        axes = step.rank - 2
        pads = step.attribute("pads") or [0] * 2 * axes
        before, after = _pair(pads[:axes], 0), _pair(pads[axes:], 0)
        if step.attribute("ceil_mode", 0):
            needed = zip(_pair(step.target[2:], 1), image, before, reach, strides, strict=True)
            after = tuple(max(end, _last(*sizes)) for end, sizes in zip(after, needed, strict=True))
        return before, after
    totals = [_total(*sizes) for sizes in zip(image, reach, strides, strict=True)]
    if None in totals:
        raise Refused(f"{policy.decode()} depends on an open axis")
    less, more = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (less, more) if policy == b"SAME_UPPER" else (more, less)


def _last(count: int | None, size: int | None, before: int, reach: int, stride: int) -> int:
    """The border that so many windows need at the end, where their number is rounded up."""
    if count is None or size is None:
        raise Refused("it rounds up the size of an open axis")
    return (count - 1) * stride + reach - size - before


def _total(size: int | None, reach: int, stride: int) -> Any:
    """What policy SAME puts around an axis."""
    if stride == 1:
        return reach - 1
    return None if size is None else max((-(-size // stride) - 1) * stride + reach - size, 0)


def fits_same(window: Window, image: Dims) -> bool:
    """Whether TFLite's policy SAME puts the same borders around the image."""
    for at in range(2):
        reach = (window.kernel[at] - 1) * window.dilations[at] + 1
        total = _total(image[at], reach, window.strides[at])
        if total is None or (window.before[at], window.after[at]) != (total // 2, total - total // 2):
            return False
    return True


def read(step: Step) -> int:
    """The first input as [batch, height, width, channels]."""
    source = step.read(0, channels_last(step.rank))
    if step.rank == 4:
        return source
    batch, width, channels = step.program.kind(source).dims
    image = step.between((batch, 1, width, channels), source)
    step.run("EXPAND_DIMS", [source, step.integer_constant([1])], image, schema.ExpandDimsOptionsT())
    return image


def write(
    step: Step, kind: str, inputs: Sequence[int], options: object, grid: Quantization | None = None
) -> None:
    """The kernel, and what takes the height away again that `read` put in."""
    output = step.write(channels_last(step.rank), grid=grid)
    if step.rank == 4:
        step.run(kind, inputs, output, options)
        return
    batch, width, channels = step.program.kind(output).dims
    image = step.between((batch, 1, width, channels), output)
    step.run(kind, inputs, image, options)
    step.run("SQUEEZE", [image], output, schema.SqueezeOptionsT(squeezeDims=[1]))


def bordered(step: Step, source: int, window: Window, fill: float = 0.0) -> tuple[int, int]:
    """The image, [batch, height, width, channels], with borders of `fill` where no policy makes them; and the
    policy.
    """
    dims = step.program.kind(source).dims
    if window.bare:
        return source, schema.Padding.VALID
    if fits_same(window, dims[1:3]):
        return source, schema.Padding.SAME
    return pad(step, source, [(0, 0), *zip(window.before, window.after, strict=True), (0, 0)], fill), (
        schema.Padding.VALID
    )


def pad(step: Step, source: int, borders: list[tuple[int, int]], fill: float) -> int:
    """In the stored order of axes."""
    kind = step.program.kind(source)
    dims = tuple(
        None if size is None else size + sum(border) for size, border in zip(kind.dims, borders, strict=True)
    )
    target = step.between(dims, source)
    inputs = [source, step.integer_constant(borders)]
    if fill == 0.0:
        step.run("PAD", inputs, target, schema.PadOptionsT())
        return target
    step.run("PADV2", [*inputs, filling(step, source, fill)], target, schema.PadV2OptionsT())
    return target


def filling(step: Step, like: int, value: float) -> int:
    """One number as the tensor would hold it; infinity is the nearest that it can hold."""
    kind = step.program.kind(like)
    if kind.grid is None:
        limits = np.finfo(np.float32)
        return step.program.constant(np.array([np.clip(value, limits.min, limits.max)], np.float32))
    code = np.clip(np.rint(value / kind.grid.scales) + kind.grid.zero_point, -128, 127)
    return step.program.constant(code.astype(np.int8), kind.grid)
