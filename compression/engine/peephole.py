"""Peephole fusions: what an exporter wrote in several nodes runs as one, faster and with fewer tensors kept.
The file keeps its nodes.
"""

import math
from collections.abc import Iterator, Mapping

from compression.engine.graph import Graph, Node
from compression.engine.operators.table import scalar

Producers = Mapping[str, Node]
_SIXTH = {"alpha": 1 / 6, "beta": 0.5}


def fuse(graph: Graph) -> Graph:
    """Fused where a pattern matches, and without the nodes that nothing needs any more."""
    fused = graph.rebuild([_fused(node, graph.producers) for node in graph.nodes])
    return without_dead_nodes(fused)


def without_dead_nodes(graph: Graph) -> Graph:
    needed, kept = set(graph.outputs), list[Node]()
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.reads)
            kept.append(node)
    return graph.rebuild(kept[::-1])


def _fused(node: Node, producers: Producers) -> Node:
    """x clip(x + 3, 0, 6) / 6 in either order is HardSwish, without the factor x HardSigmoid; x sigmoid(x) is
    Swish.
    """
    if node.domain or node.op_type not in {"Mul", "Div"}:
        return node
    for x, gate in _factors(node):
        if _hard_sigmoid_of(gate, producers) == x:
            return Node("HardSwish", (x,), node.outputs, name=node.name)
        if _made_by(gate, "Sigmoid", producers) == x:
            return Node("Swish", (x,), node.outputs, name=node.name)
    base = _sixth(node)
    product = producers.get(base or "")
    if base is None or product is None:
        return node
    if any(_shifted_relu6(gate, producers) == x for x, gate in _factors(product)):
        x = next(x for x, gate in _factors(product) if _shifted_relu6(gate, producers) == x)
        return Node("HardSwish", (x,), node.outputs, name=node.name)
    shifted = _shifted_relu6(base, producers)
    return node if shifted is None else Node("HardSigmoid", (shifted,), node.outputs, _SIXTH, name=node.name)


def _factors(node: Node) -> Iterator[tuple[str, str]]:
    if node.op_type == "Mul":
        a, b = node.inputs
        yield a, b
        yield b, a


def _made_by(name: str, op_type: str, producers: Producers) -> str | None:
    """The first input of the node that makes `name`, if it is such a node."""
    node = producers.get(name)
    return node.inputs[0] if node is not None and node.op_type == op_type else None


def _hard_sigmoid_of(name: str, producers: Producers) -> str | None:
    node = producers.get(name)
    if node is None:
        return None
    if node.op_type == "HardSigmoid":
        matches = _near(node.number("alpha", 0.2), 1 / 6) and node.number("beta", 0.5) == 0.5
        return node.inputs[0] if matches else None
    base = _sixth(node)
    return None if base is None else _shifted_relu6(base, producers)


def _sixth(node: Node) -> str | None:
    """What the node divides by six."""
    if node.op_type == "Div" and _near(scalar(node, 1), 6):
        return node.inputs[0]
    return _other_operand(node, "Mul", 1 / 6)


def _shifted_relu6(name: str, producers: Producers) -> str | None:
    """The x of clip(x + 3, 0, 6)."""
    clip = producers.get(name)
    if clip is None or clip.op_type != "Clip":
        return None
    low = clip.attributes.get("min") if clip.opset < 11 else scalar(clip, 1)
    high = clip.attributes.get("max") if clip.opset < 11 else scalar(clip, 2)
    shift = producers.get(clip.inputs[0])
    return _other_operand(shift, "Add", 3) if _near(high, 6) and low == 0 and shift is not None else None


def _other_operand(node: Node, op_type: str, number: float) -> str | None:
    if node.op_type != op_type or node.domain:
        return None
    return next((node.inputs[1 - slot] for slot in (0, 1) if _near(scalar(node, slot), number)), None)


def _near(value: float | None, number: float) -> bool:
    return value is not None and math.isclose(value, number, rel_tol=1e-6)
