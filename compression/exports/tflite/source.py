"""What the writer asks of an ONNX graph: shapes with open axes, constants, 8-bit grids, who reads what."""

from functools import cached_property

import numpy as np
import onnx
from onnx import helper, shape_inference

from compression.dataset import Array
from compression.exports import trial
from compression.exports.tflite import quantization
from compression.exports.tflite.program import Dims, Refused
from compression.exports.tflite.quantization import Quantization
from compression.graph import inspection, shapes, walk
from compression.graph.index import Index


class _Taken(Index):
    """Arrays leave the graph when they are read: a large model is not held twice."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self._arrays: dict[str, Array | None] = {}

    def constant(self, name: str) -> Array | None:
        if name not in self._arrays:
            self._arrays[name] = super().constant(name)
            if name in self.initializers:
                self.initializers[name].ClearField("raw_data")
        return self._arrays[name]


class Source:
    """Consumes the model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self.graph = model, model.graph
        self.opset = inspection.opset(model)
        inferred = shape_inference.infer_shapes(shapes.skeleton(model), data_prop=True).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self._values = {value.name: value.type.tensor_type for value in values}
        self._trials = [trial.run(model, size) for size in trial.BATCHES]
        self.index: Index = _Taken(model.graph)

    def dims(self, name: str) -> Dims:
        """Errors: Refused where inference does not tell the rank."""
        if name in self.index.initializers:
            return tuple(self.index.initializers[name].dims)
        if (dims := trial.common(self._trials, name)) is not None:
            return dims
        tensor = self._values.get(name)
        if tensor is None or not tensor.HasField("shape"):
            raise Refused(f"the rank of {name!r} depends on the input")
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)

    def dtype(self, name: str) -> str:
        known = self._values.get(name)
        kind = known.elem_type if known is not None else self.index.initializers[name].data_type
        return str(helper.tensor_dtype_to_np_dtype(kind))

    def constant(self, name: str) -> Array | None:
        """Of an initializer, one behind a DequantizeLinear, or what follows from constants or fixed axes."""
        array = self.index.constant(name)
        if array is None and name in self._folded:
            return self._folded[name]
        node = self._dequantize(name)
        return quantization.dequantized(node, self.index) if array is None and node is not None else array

    def codes(self, name: str) -> tuple[Array, Quantization] | None:
        """int8 behind the DequantizeLinear that gives the tensor."""
        node, grid = self._dequantize(name), self.grid_before(name)
        stored = self.index.constant(node.input[0]) if node is not None else None
        if stored is None or grid is None:
            return None
        return quantization.codes(stored), grid.along(grid.axis % max(stored.ndim, 1))

    def grid_before(self, name: str) -> Quantization | None:
        """Of the DequantizeLinear that gives the tensor."""
        node = self._dequantize(name)
        return quantization.read(node, self.index) if node is not None else None

    def grid_after(self, name: str) -> Quantization | None:
        """Of the QuantizeLinear that read the tensor, where nothing else does and they agree."""
        nodes = self.index.consumers.get(name, [])
        if name in self.index.outputs or not nodes or {node.op_type for node in nodes} != {"QuantizeLinear"}:
            return None
        grids = [quantization.read(node, self.index) for node in nodes]
        first = grids[0]
        if first is None or first.scales.size != 1:
            return None
        return first if all(grid is not None and grid.same(first) for grid in grids) else None

    @cached_property
    def _folded(self) -> dict[str, Array]:
        one, other = (tried.values for tried in self._trials)
        found = {name: array for name, array in one.items() if np.array_equal(array, other.get(name, np.nan))}
        for node in self.graph.node:
            if node.op_type in _FOLDED and node.output[0] not in found:
                feeds = {name: found.get(name, self.index.constant(name)) for name in walk.reads(node)}
                if all(array is not None for array in feeds.values()):
                    found[node.output[0]] = trial.evaluate(self._model, node, feeds)
        return found

    @cached_property
    def live(self) -> list[onnx.NodeProto]:
        """Nodes that outputs need: shapes that inference computed are not computed again."""
        needed, nodes = set(self.index.outputs), []
        for node in reversed(self.graph.node):
            if needed.isdisjoint(node.output) or node.output[0] in self._folded:
                continue
            nodes.append(node)
            needed.update(node.input[:1] if node.op_type in _SHAPED and self._sized(node) else node.input)
        return nodes[::-1]

    def _sized(self, node: onnx.NodeProto) -> bool:
        try:
            return self.dims(node.output[0]).count(None) <= 1
        except Refused:
            return False

    def before_dequantize(self, name: str) -> str | None:
        node = self._dequantize(name)
        return node.input[0] if node is not None else None

    def _dequantize(self, name: str) -> onnx.NodeProto | None:
        node = self.index.producer.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None


_FOLDED = {
    "Add",
    "Cast",
    "Div",
    "Identity",
    "Mul",
    "Neg",
    "Reshape",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
}
"""Operators on weights that exporters leave to the runtime."""
_SHAPED = {"Reshape"}
"""Their second input is a shape, which is known before where all but one axis of the output are."""
