"""A layer's node replaced by a chain of nodes."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.factorization.chains import Link
from compression.factorization.layers import Layer
from compression.graph.index import Array, Index
from compression.kernels.low_rank import Floats


class Writer:
    """Edits a copy of a model, layer by layer."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._taken = set(Index(model.graph).producer) | {t.name for t in model.graph.initializer}
        self._chains: dict[str, list[onnx.NodeProto]] = {}
        self._gone: set[str] = set()

    def replace(self, layer: Layer, chain: Sequence[Link], weights: Sequence[Floats], shift: Floats) -> None:
        """`weights` as [outputs, inputs, *window], `shift` [outputs] is added to the layer's outputs; it must
        be zero where the layer has no place for it.
        """
        names = [
            self._store(f"{layer.weight}_{at}", _stored(layer, one).astype(np.float32))
            for at, one in enumerate(weights)
        ]
        bias = self._shifted(layer, shift)
        source = layer.source
        nodes = []
        for link, name in zip(chain, names, strict=True):
            last = link is chain[-1]
            output = layer.node.output[0] if last else self._free(f"{layer.node.output[0]}_rank")
            inputs = [source, name, *([bias] if last and bias else [])]
            nodes.append(_node(layer, link, inputs, output, last=last))
            source = output
        self._chains[layer.node.output[0]] = nodes
        self._gone.add(layer.weight)

    def done(self) -> onnx.ModelProto:
        """The model, in order. The writer is of no use afterwards."""
        graph = self.model.graph
        nodes = [
            new
            for node in graph.node
            for new in self._chains.get(node.output[0] if node.output else "", [node])
        ]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
        for field in ("initializer", "input"):
            kept = [entry for entry in getattr(graph, field) if entry.name not in self._gone]
            graph.ClearField(field)
            getattr(graph, field).extend(kept)
        return self.model

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def _store(self, wanted: str, values: Array) -> str:
        name = self._free(wanted)
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _shifted(self, layer: Layer, shift: Floats) -> str:
        """The third input of the last node."""
        own = layer.node.input[2] if len(layer.node.input) > 2 else ""
        if layer.bias is None or not shift.any():
            return own
        if not layer.bias:
            return self._store(f"{layer.weight}_bias", shift.astype(np.float32))
        index = Index(self.model.graph)
        before = index.constant(layer.bias)
        assert before is not None  # noqa: S101  a layer's bias is an initializer
        index.replace(layer.bias, (before + shift).astype(np.float32))
        return own


def _stored(layer: Layer, weight: Floats) -> Floats:
    """As its node reads it: rows times [inputs, outputs], or an image's kernel."""
    return weight if layer.convolves else weight[:, :, 0].T


def _node(layer: Layer, link: Link, inputs: Sequence[str], output: str, *, last: bool) -> onnx.NodeProto:
    name = layer.node.name if last else output
    if layer.convolves:
        node = helper.make_node("Conv", inputs, [output], name)
        node.attribute.extend(_attributes(layer.node, link, len(layer.windows.kernel)))
        return node
    if layer.node.op_type == "Gemm" and last:
        kept = {a.name: a.f for a in layer.node.attribute if a.name == "beta"}
        return helper.make_node("Gemm", inputs, [output], name, **kept)
    return helper.make_node("MatMul", inputs, [output], name)


def _attributes(node: onnx.NodeProto, link: Link, rank: int) -> list[onnx.AttributeProto]:
    """Of a Conv, on the axes that a link takes; elsewhere a single point that moves by one."""
    neutral: Mapping[str, int] = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0}
    found = []
    for attribute in node.attribute:
        if attribute.name in neutral:
            own = list(attribute.ints)
            values = [
                one if at % rank in link.axes else neutral[attribute.name] for at, one in enumerate(own)
            ]
            found.append(helper.make_attribute(attribute.name, values))
        else:
            found.append(attribute)
    return found
