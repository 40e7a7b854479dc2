"""A dense convolution's node replaced by convolutions within groups and a 1 x 1."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.factorization.layers import Layer
from compression.graph.index import Array, Index
from compression.rewriting.correction import Mixing
from compression.rewriting.forms import Form
from compression.rewriting.separation import Floats, Separation


class Writer:
    """Edits a copy of a model, layer by layer."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._taken = set(Index(model.graph).producer) | {t.name for t in model.graph.initializer}
        self._nodes: dict[str, list[onnx.NodeProto]] = {}
        self._gone: set[str] = set()
        self._mixings: dict[str, Mixing] = {}

    def replace(self, layer: Layer, form: Form, parts: Separation, shift: Floats) -> None:
        """`shift` [outputs] is added to the layer's bias, if that is its own."""
        kernels = [self._convolution(layer, form, kernel) for kernel in _kernels(form, parts)]
        nodes = list(kernels)
        if len(kernels) > 1:
            joined = self._free(f"{layer.node.output[0]}_joined")
            outputs = [node.output[0] for node in kernels]
            nodes.append(helper.make_node("Concat", outputs, [joined], joined, axis=1))
        nodes.append(self._mixing(layer, parts, nodes[-1].output[0], shift))
        self._nodes[layer.node.output[0]] = nodes
        self._gone.add(layer.weight)

    def done(self) -> tuple[onnx.ModelProto, list[Mixing]]:
        """The model, and its new 1 x 1 convolutions in order. The writer is of no use afterwards."""
        graph = self._model.graph
        nodes = [
            new
            for node in graph.node
            for new in self._nodes.get(node.output[0] if node.output else "", [node])
        ]
        rewritten = onnx.GraphProto()
        rewritten.node.extend(nodes)
        graph.ClearField("node")
        graph.node.extend(rewritten.node)
        for field in ("initializer", "input"):
            kept = [entry for entry in getattr(graph, field) if entry.name not in self._gone]
            graph.ClearField(field)
            getattr(graph, field).extend(kept)
        outputs = [node.output[0] for node in graph.node if node.output]
        return self._model, [self._mixings[name] for name in outputs if name in self._mixings]

    def _convolution(self, layer: Layer, form: Form, kernel: Floats) -> onnx.NodeProto:
        """With the layer's own kernel size, strides, dilations and padding."""
        kind = "depthwise" if form.depthwise else "grouped"
        shaped = kernel.reshape(*kernel.shape[:2], *layer.windows.kernel)
        weight = self._store(f"{layer.weight}_{kind}", shaped)
        output = self._free(f"{layer.node.output[0]}_{kind}")
        node = helper.make_node("Conv", [layer.source, weight], [output], output)
        node.attribute.extend(one for one in layer.node.attribute if one.name != "group")
        node.attribute.append(helper.make_attribute("group", layer.inputs // form.channels))
        return node

    def _mixing(self, layer: Layer, parts: Separation, source: str, shift: Floats) -> onnx.NodeProto:
        matrix = np.concatenate([part.reshape(layer.outputs, -1) for part in _mixings(parts)], 1)
        ones = [1] * len(layer.windows.kernel)
        weight = self._store(f"{layer.weight}_pointwise", matrix.reshape(*matrix.shape, *ones))
        bias = self._bias(layer, shift)
        inputs = [source, weight, *([bias] if bias else [])]
        output = layer.node.output[0]
        self._mixings[output] = Mixing(weight, bias if layer.bias is not None else "", source, output)
        return helper.make_node("Conv", inputs, layer.node.output, layer.node.name, kernel_shape=ones)

    def _bias(self, layer: Layer, shift: Floats) -> str:
        if layer.bias is None:
            return str(layer.node.input[2])
        if not layer.bias:
            return self._store(f"{layer.weight}_bias", shift)
        index = Index(self._model.graph)
        before = index.constant(layer.bias)
        assert before is not None  # noqa: S101  a layer's own bias is an initializer
        index.replace(layer.bias, (before + shift).astype(before.dtype))
        return layer.bias

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def _store(self, wanted: str, values: Array) -> str:
        name = self._free(wanted)
        array = np.ascontiguousarray(values, np.float32)
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _kernels(form: Form, parts: Separation) -> Iterator[Floats]:
    """[outputs, channels of a group, points] of each convolution."""
    groups, rank, channels, points = parts.kernels.shape
    if form.depthwise:
        yield from np.moveaxis(parts.kernels, 1, 0)
    else:
        yield parts.kernels.reshape(groups * rank, channels, points)


def _mixings(parts: Separation) -> Sequence[Floats]:
    """What mixes the outputs of each convolution."""
    depthwise = parts.kernels.shape[2] == 1
    return list(np.moveaxis(parts.mixing, 2, 0)) if depthwise else [parts.mixing]
