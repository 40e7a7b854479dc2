"""Matrix products: what is summed over goes together; what is constant is a weight."""

from collections.abc import Mapping
from typing import cast

import onnx

from compression.graph import walk
from compression.graph.channels.tracer import Tracer, rule


@rule("MatMul")
def _matmul(trace: Tracer, node: onnx.NodeProto) -> None:
    left, right, out = node.input[0], node.input[1], node.output[0]
    ranks = len(trace.shape(left)), len(trace.shape(right))
    if min(ranks) < 2:
        trace.freeze(left, right, out)
        return
    a, b, y = trace.axes(left), trace.axes(right), trace.axes(out)
    for own in (a, b):
        for first, second in zip(own[-3::-1], y[-3::-1], strict=False):
            trace.join(first, second)
    trace.join(a[-2], y[-2])
    trace.join(b[-1], y[-1])
    trace.join(a[-1], b[-2])
    _weights(trace, (left, right), (ranks[0] - 1, ranks[1] - 2), (ranks[0] - 2, ranks[1] - 1))


@rule("Gemm")
def _gemm(trace: Tracer, node: onnx.NodeProto) -> None:
    turned = [cast("int", walk.attribute(node, name, 0)) for name in ("transA", "transB")]
    contracted, free = (1 - turned[0], turned[1]), (turned[0], 1 - turned[1])
    left, right, out = node.input[0], node.input[1], node.output[0]
    trace.join(trace.axes(left)[contracted[0]], trace.axes(right)[contracted[1]])
    for name, axis, position in ((left, free[0], 0), (right, free[1], 1)):
        trace.join(trace.axes(name)[axis], trace.axes(out)[position])
    trace.broadcast([name for name in node.input[2:] if name], out)
    _weights(trace, (left, right), contracted, free)


def _weights(
    trace: Tracer, names: tuple[str, str], contracted: tuple[int, int], free: tuple[int, int]
) -> None:
    """One of the operands is constant: a layer. Both or none: no weight of a layer."""
    constant = [trace.is_constant(name) for name in names]
    for name, other, contraction, production in zip(names, reversed(constant), contracted, free, strict=True):
        if trace.is_constant(name) and not other:
            trace.contract(name, contraction)
            trace.produce(name, production)


@rule("Einsum")
def _einsum(trace: Tracer, node: onnx.NodeProto) -> None:
    equation = cast("bytes", walk.attribute(node, "equation")).decode().replace(" ", "")
    left, _, right = equation.partition("->")
    terms = [*left.split(","), right]
    names = [*node.input, node.output[0]]
    if "." in equation or not right or any(len(set(term)) < len(term) for term in terms):
        trace.freeze(*names)
        return
    first: dict[str, tuple[str, int]] = {}
    for name, term in zip(names, terms, strict=True):
        for position, letter in enumerate(term):
            other, axis = first.setdefault(letter, (name, position))
            trace.join(trace.axes(other)[axis], trace.axes(name)[position])
    _letters(trace, dict(zip(node.input, terms, strict=False)), right)


def _letters(trace: Tracer, terms: Mapping[str, str], output: str) -> None:
    if sum(not trace.is_constant(name) for name in terms) != 1:
        return
    (data,) = (term for name, term in terms.items() if not trace.is_constant(name))
    for name, term in terms.items():
        for position, letter in enumerate(term if trace.is_constant(name) else ""):
            if letter not in output and letter in data:
                trace.contract(name, position)
            elif letter in output and letter not in data:
                trace.produce(name, position)
