"""Does the ONNX file compute what the original does? Asked of ONNX Runtime, on random inputs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from compression import runtime
from compression.conversion import original
from compression.conversion.failures import EXPORT, converting
from compression.conversion.original import Array, Original
from compression.engine.convert import to_numpy, to_torch
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.inspection import Conversion
from compression.quiet import quiet

TOLERANCE = 1e-3
"""Of the largest absolute value of an output."""
_BATCH = 3
_ROUNDS = 3
_SIZES = (_BATCH, 5, 9, 13, 17, 21)
"""Other sizes than those of the export, or a size that was fixed by mistake would not be seen."""


def compare(model: Original, converted: Path, sizes: Mapping[str, int] | None = None) -> Conversion:
    """`sizes` of dynamic axes, where the model does not take every size.

    Errors: CompressionError `conversion_differs`, E_MODEL_RUN, `conversion_failed`.
    """
    session = runtime.session(converted)
    sizes = sizes or dict(zip(original.axes(model.arguments), _SIZES, strict=False))
    generator = np.random.default_rng(0)
    worst, where = 0.0, ""
    for _ in range(_ROUNDS):
        feeds = original.sample(model.arguments, sizes, generator)
        have = runtime.run(session, feeds)
        for name, wanted in zip(model.outputs, _run(model, feeds), strict=True):
            difference = relative_difference(wanted, have[name])
            if difference > worst:
                worst, where = difference, name
    if worst > TOLERANCE:
        raise _differs(model, where, worst)
    return Conversion(
        framework=model.framework,
        version=model.version,
        difference=worst,
        samples=_ROUNDS * sizes.get("batch", 1),
    )


def _run(model: Original, feeds: dict[str, Array]) -> list[Array]:
    with converting(f"running it in {model.framework}"), quiet(), torch.no_grad():
        return [to_numpy(value) for value in model.module(*(to_torch(array) for array in feeds.values()))]


def relative_difference(wanted: Array, have: Array) -> float:
    """The largest difference over the largest absolute value wanted; infinite where shapes differ, or where
    only one is a number.
    """
    if wanted.shape != have.shape:
        return float("inf")
    a, b = wanted.astype(np.float64), have.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    finite = np.isfinite(a)
    if not (same | (finite & np.isfinite(b))).all():
        return float("inf")
    scale = float(np.abs(a[finite]).max())
    return float(np.abs(a - b)[~same].max()) / max(scale, float(np.finfo(np.float32).tiny))


def _differs(model: Original, output: str, difference: float) -> CompressionError:
    return CompressionError(
        "conversion_differs",
        f"output {output!r} of the ONNX file differs from {model.framework}'s by {difference:.2g} of its "
        f"scale; at most {TOLERANCE:g} is taken",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion(EXPORT),),
    )
