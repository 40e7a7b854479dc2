"""Peephole fusions: what an exporter wrote in several nodes runs as one, faster and with fewer tensors kept.

The file keeps its nodes; only the plan is changed.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator

from compression.engine.graph import Graph, Node
from compression.engine.operators.fused import DOMAIN
from compression.engine.operators.table import scalar

Scaled = tuple[str, float]
"""A tensor and the number it is multiplied by."""


def fuse(graph: Graph) -> Graph:
    """Fused where a pattern matches, and without the nodes that nothing needs any more."""
    view = View(graph)
    rules: list[Callable[[Node, View], Node | None]] = [_activation, _attention, _linear, _fake_quantization]
    nodes = []
    for node in graph.nodes:
        found = (rule(node, view) for rule in rules) if not node.domain else iter(())
        nodes.append(next((fused for fused in found if fused is not None), node))
    return without_dead_nodes(graph.rebuild(nodes))


def without_dead_nodes(graph: Graph) -> Graph:
    needed, kept = set(graph.outputs), list[Node]()
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.reads)
            kept.append(node)
    return graph.rebuild(kept[::-1])


class View:
    """Who makes and who reads what."""

    def __init__(self, graph: Graph) -> None:
        self._producers = graph.producers
        self._reads = Counter(name for node in graph.nodes for name in node.reads)
        self._reads.update(graph.outputs)

    def maker(self, name: str, *op_types: str) -> Node | None:
        """The node that makes `name`, if it is one of these."""
        node = self._producers.get(name)
        return node if node is not None and not node.domain and node.op_type in op_types else None

    def read_once(self, name: str) -> bool:
        return self._reads[name] == 1

    def unscaled(self, name: str) -> Scaled:
        """Without the numbers it was last multiplied or divided by."""
        factor = 1.0
        while (node := self.maker(name, "Mul", "Div")) is not None:
            inner = _scaled(node)
            if inner is None:
                break
            name, factor = inner[0], factor * inner[1]
        return name, factor


def _scaled(node: Node) -> Scaled | None:
    """What a Mul or Div by a number multiplies, and by what."""
    divisor = scalar(node, 1)
    if node.op_type == "Div":
        return (node.inputs[0], 1 / divisor) if divisor else None
    for slot in (0, 1):
        factor = scalar(node, slot)
        if factor is not None:
            return node.inputs[1 - slot], factor
    return None


def _activation(node: Node, view: View) -> Node | None:
    """x sigmoid(x) is Swish, x clip(x + 3, 0, 6) / 6 HardSwish, x (1 + erf(x / sqrt 2)) / 2 Gelu."""
    if node.op_type not in {"Mul", "Div"}:
        return None
    name, factor = view.unscaled(node.outputs[0])
    product = view.maker(name, "Mul")
    for x, gate, inner in _factors(product, view):
        for op_type, gate_of, expected in GATES:
            if _near(factor * inner, expected) and gate_of(gate, view) == x:
                return Node(op_type, (x,), node.outputs, name=node.name)
    gated = _shifted_relu6(name, view) if _near(factor, 1 / 6) else None
    attributes = {"alpha": 1 / 6, "beta": 0.5}
    return None if gated is None else Node("HardSigmoid", (gated,), node.outputs, attributes, name=node.name)


def _factors(product: Node | None, view: View) -> Iterator[tuple[str, str, float]]:
    """Both orders of a product, each operand as it is and without its own numbers."""
    if product is None:
        return
    for x, gate in (product.inputs, product.inputs[::-1]):
        for left, outer in dict.fromkeys([(x, 1.0), view.unscaled(x)]):
            for right, inner in dict.fromkeys([(gate, 1.0), view.unscaled(gate)]):
                yield left, right, outer * inner


def _sigmoid(name: str, view: View) -> str | None:
    node = view.maker(name, "Sigmoid")
    return None if node is None else node.inputs[0]


def _hard_sigmoid(name: str, view: View) -> str | None:
    node = view.maker(name, "HardSigmoid")
    if node is None or not _near(node.number("alpha", 0.2), 1 / 6) or node.number("beta", 0.5) != 0.5:
        return None
    return node.inputs[0]


def _shifted_relu6(name: str, view: View) -> str | None:
    """The x of clip(x + 3, 0, 6)."""
    clip = view.maker(name, "Clip")
    if clip is None:
        return None
    low = clip.attributes.get("min") if clip.opset < 11 else scalar(clip, 1)
    high = clip.attributes.get("max") if clip.opset < 11 else scalar(clip, 2)
    return _plus(clip.inputs[0], 3, view) if low == 0 and _near(high, 6) else None


def _normal_distribution(name: str, view: View) -> str | None:
    """The x of 1 + erf(x / sqrt 2)."""
    erf = view.maker(_plus(name, 1, view) or "", "Erf")
    if erf is None:
        return None
    x, factor = view.unscaled(erf.inputs[0])
    return x if _near(factor, math.sqrt(0.5)) else None


def _plus(name: str, number: float, view: View) -> str | None:
    node = view.maker(name, "Add")
    if node is None:
        return None
    return next((node.inputs[1 - slot] for slot in (0, 1) if _near(scalar(node, slot), number)), None)


def _near(value: float | None, number: float) -> bool:
    return value is not None and math.isclose(value, number, rel_tol=1e-6)


GATES: list[tuple[str, Callable[[str, View], str | None], float]] = [
    ("Swish", _sigmoid, 1.0),
    ("HardSwish", _hard_sigmoid, 1.0),
    ("HardSwish", _shifted_relu6, 1 / 6),
    ("Gelu", _normal_distribution, 0.5),
]
"""x times a gate of x, times a number."""


def _attention(node: Node, view: View) -> Node | None:
    """softmax(scale q k + mask) v."""
    weights = view.maker(node.inputs[0], "Softmax") if node.op_type == "MatMul" else None
    if weights is None or weights.opset < 13 or not view.read_once(weights.outputs[0]):
        return None
    name, mask = weights.inputs[0], ""
    masked = view.maker(name, "Add")
    if masked is not None:
        scores = [view.maker(view.unscaled(part)[0], "MatMul") is not None for part in masked.inputs]
        if sum(scores) != 1:
            return None
        name, mask = masked.inputs[scores.index(True)], masked.inputs[scores.index(False)]
    name, scale = view.unscaled(name)
    product = view.maker(name, "MatMul")
    if product is None:
        return None
    (query, before), (key, inner) = (view.unscaled(part) for part in product.inputs)
    attributes = {"scale": scale * before * inner, "axis": weights.integer("axis", -1)}
    inputs = (query, key, node.inputs[1], mask)
    return Node("Attention", inputs, node.outputs, attributes, name=node.name, domain=DOMAIN)


def _linear(node: Node, view: View) -> Node | None:
    """x w + b, where nobody else reads x w."""
    if node.op_type != "Add":
        return None
    for slot in (0, 1):
        product = view.maker(node.inputs[slot], "MatMul")
        if product is not None and view.read_once(product.outputs[0]):
            inputs = (*product.inputs, node.inputs[1 - slot])
            return Node("Linear", inputs, node.outputs, name=node.name, domain=DOMAIN)
    return None


def _fake_quantization(node: Node, view: View) -> Node | None:
    """QuantizeLinear, perhaps a Clip of the integers, and DequantizeLinear by the same scale."""
    if node.op_type != "DequantizeLinear" or not node.has(2):
        return None
    clip = view.maker(node.inputs[0], "Clip")
    limits = {"low": scalar(clip, 1), "high": scalar(clip, 2)} if clip is not None else {}
    quantize = view.maker(node.inputs[0] if clip is None else clip.inputs[0], "QuantizeLinear")
    if quantize is None or None in limits.values() or quantize.inputs[1:] != node.inputs[1:]:
        return None
    attributes = {"axis": node.integer("axis", 1)}
    plain = all({**one.attributes, **attributes} == attributes for one in (quantize, node))
    if not plain or quantize.integer("axis", 1) != attributes["axis"] or quantize.types:
        return None
    inputs = (quantize.inputs[0], *node.inputs[1:])
    return Node("FakeQuantize", inputs, node.outputs, {**attributes, **limits}, name=node.name, domain=DOMAIN)
