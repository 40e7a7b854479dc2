"""Where a window over an image begins and ends: ONNX names each border, TFLite two policies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.exports.tflite.program import Dims, Refused
from compression.exports.tflite.step import Step


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


def of(step: Step, kernel: tuple[int, ...]) -> Window:
    """Errors: Refused of windows over other than two axes, and of borders that depend on an open axis."""
    if len(kernel) != 2:
        raise Refused(f"its window has {len(kernel)} axes, not 2")
    strides, dilations = (tuple(step.attribute(name, (1, 1))) for name in ("strides", "dilations"))
    reach = tuple((size - 1) * apart + 1 for size, apart in zip(kernel, dilations, strict=True))
    borders = _borders(step, reach, strides)
    return Window((kernel[0], kernel[1]), strides, dilations, borders[0], borders[1])


def _borders(step: Step, reach: Any, strides: Any) -> tuple[Any, Any]:
    policy = bytes(step.attribute("auto_pad", b"NOTSET"))
    if policy == b"VALID":
        return (0, 0), (0, 0)
    if policy == b"NOTSET":
        pads = tuple(step.attribute("pads", (0,) * 4))
        return pads[:2], pads[2:]
    totals = [_total(*sizes) for sizes in zip(step.dims()[2:], reach, strides, strict=True)]
    if None in totals:
        raise Refused(f"{policy.decode()} depends on an open axis")
    less, more = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (less, more) if policy == b"SAME_UPPER" else (more, less)


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
