"""The constant bounds of a Slice."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from compression.graph import walk
from compression.runtime import Array


def windows(
    shape: Sequence[int], node: onnx.NodeProto, values: Callable[[str], Array | None]
) -> dict[int, tuple[int, int]] | None:
    """First index and step by axis; None where one of them is computed. `values` gives those of an
    initializer.
    """
    given = bounds(node, values)
    if given is None:
        return None
    starts, _, axes, steps = given
    found = {}
    for start, axis, step in zip(starts, axes, steps, strict=True):
        size = shape[axis]
        found[axis % len(shape)] = (max(start + size, 0) if start < 0 else min(start, size)), step
    return found


def bounds(
    node: onnx.NodeProto, values: Callable[[str], Array | None]
) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Starts, ends, axes and steps, as attributes (before opset 10) or as constant inputs."""
    if len(node.input) == 1:
        given = [walk.attribute(node, name) for name in ("starts", "ends", "axes")]
    else:
        given = [values(name) if name else None for name in node.input[1:]]
        if any(value is None and name for value, name in zip(given, node.input[1:], strict=True)):
            return None
    starts, ends, axes, steps = (
        None if value is None else np.ravel(np.asarray(value)).tolist() for value in [*given, None, None][:4]
    )
    count = len(starts or [])
    return starts or [], ends or [], axes or list(range(count)), steps or [1] * count
