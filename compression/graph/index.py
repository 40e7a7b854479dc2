"""Who makes and who reads each tensor of a graph; its constants. Valid until the graph is edited."""

from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from compression import mapped
from compression.graph import walk
from compression.mapped import Store

Array = np.ndarray[Any, np.dtype[Any]]


class Index:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.graph.node for name in node.output}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """A node that reads a tensor twice is listed twice."""
        found = defaultdict(list)
        for node in self.graph.node:
            for name in (*node.input, *walk.captured(node)):
                found[name].append(node)
        return found

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The single node that reads the tensor, unless it is an output of the graph too."""
        nodes = self.consumers.get(name, [])
        return nodes[0] if len(nodes) == 1 and name not in self.outputs else None

    def constant(self, name: str) -> Array | None:
        tensor = self.initializers.get(name)
        return None if tensor is None else mapped.array(tensor)

    def scalar(self, name: str) -> float | None:
        value = self.constant(name)
        return float(value.item()) if value is not None and value.size == 1 else None

    def replace(self, name: str, value: Array) -> None:
        """New values for an initializer; a mapped one must lie in a scratch directory."""
        tensor = self.initializers[name]
        tensor.CopyFrom(Store.beside(tensor).instead(tensor, np.ascontiguousarray(value), name))
