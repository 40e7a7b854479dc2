"""Weights and biases of layers: their numbers laid out as TFLite's kernels read them."""

from collections.abc import Callable

import numpy as np

from compression.dataset import Array
from compression.exports.tflite.program import Kind, Refused
from compression.exports.tflite.quantization import Quantization
from compression.exports.tflite.step import Step

Layout = Callable[[Array], Array]


def codes(step: Step) -> tuple[Array, Quantization] | None:
    """Of input 1, where it lies in int8 with a scale for all or for each output."""
    found = step.source.codes(step.node.input[1])
    return found if found and (found[1].scales.size == 1 or found[1].axis == _outputs(step)) else None


def _outputs(step: Step) -> int:
    """The axis of outputs in the weight of the graph."""
    return 0 if step.node.op_type == "Conv" or step.attribute("transB", 0) else 1


def takes_codes(step: Step) -> bool:
    """Kernels take kernels and matrices of int8 around zero."""
    found = codes(step)
    single = step.node.op_type == "Conv" or len(step.dims(1)) == 2
    bias_known = not step.has(2) or step.source.constant(step.node.input[2]) is not None
    plain = step.attribute("alpha", 1.0) == step.attribute("beta", 1.0) == 1.0
    return found is not None and found[1].zero_point == 0 and single and bias_known and plain


def weight(step: Step, layout: Layout, axis: int) -> int:
    """Input 1 after `layout`, its outputs then along `axis`. What lies in int8 stays so in the file: a layer
    in floats dequantizes it when the model is loaded. Errors: Refused.
    """
    found = codes(step)
    if found is None:
        return step.program.constant(_contiguous(layout(step.constant(1))))
    numbers, grid = found
    stored = step.program.constant(
        _contiguous(layout(numbers)), grid.along(axis if grid.scales.size > 1 else 0)
    )
    if step.int8:
        return stored
    floats = step.program.tensor(Kind(step.program.kind(stored).dims, "float32"))
    step.run("DEQUANTIZE", [stored], floats)
    return floats


def bias(step: Step, outputs: int, factor: float = 1.0) -> int:
    """Input 2, or zeros, one for each output. Errors: Refused."""
    values = step.constant(2) * np.float32(factor) if step.has(2) else np.zeros(outputs, np.float32)
    if values.size not in (1, outputs):
        raise Refused("its bias is no vector")
    values = np.broadcast_to(values.reshape(-1), (outputs,)).astype(np.float32)
    return _coded_bias(step, values) if step.int8 else step.program.constant(_contiguous(values))


def _coded_bias(step: Step, values: Array) -> int:
    """int32 in units of a product of a code of the input and one of the weight."""
    source, found = step.grid(0), codes(step)
    if source is None or found is None:  # the table asked `takes_codes`
        raise Refused("its weight is no int8")
    scales = (source.scales * found[1].scales).astype(np.float32)
    steps = np.rint(values.astype(np.float64) / scales)
    limits = np.iinfo(np.int32)
    return step.program.constant(
        np.clip(steps, limits.min, limits.max).astype(np.int32), Quantization(scales, 0)
    )


def _contiguous(array: Array) -> Array:
    return np.ascontiguousarray(array)
