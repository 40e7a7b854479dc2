"""Small tensors in place of mapped ones, for tools that rewrite a graph and would read every value."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression import mapped

Dims = Callable[[TensorProto], Sequence[int] | None]
"""Shape of a stand-in; None: the tensor stays."""


def exchange(graph: onnx.GraphProto, dims: Dims) -> dict[str, TensorProto]:
    """Zeros of the same types for the graph's mapped initializers, in place. Returns the tensors, by name."""
    exchanged = {}
    for tensor in graph.initializer:
        shape = dims(tensor) if mapped.is_mapped(tensor) else None
        if shape is not None:
            exchanged[tensor.name] = TensorProto.FromString(tensor.SerializeToString())
            zeros = np.zeros(shape, helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
    return exchanged


def restore(graph: onnx.GraphProto, exchanged: Mapping[str, TensorProto]) -> None:
    """What of them the tool left, in place."""
    for tensor in graph.initializer:
        if tensor.name in exchanged:
            tensor.CopyFrom(exchanged[tensor.name])
