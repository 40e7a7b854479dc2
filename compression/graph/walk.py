"""Nodes, subgraphs and the names they use."""

from collections.abc import Iterator

import onnx
from onnx import AttributeProto


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it, outermost first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs included."""
    for scope in graphs(graph):
        yield from scope.node


def captured(node: onnx.NodeProto) -> set[str]:
    """Names of outer scopes that the node's subgraphs read."""
    names: set[str] = set()
    for inner in subgraphs(node):
        names |= free_names(inner)
    return names


def free_names(graph: onnx.GraphProto) -> set[str]:
    """Names the graph reads but does not define."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    read: set[str] = set()
    for node in graph.node:
        read |= set(node.input) | captured(node)
        defined |= set(node.output)
    read |= {value.name for value in graph.output}
    return read - defined - {""}


def reads(node: onnx.NodeProto) -> set[str]:
    """Everything the node needs before it can run."""
    return ({*node.input} | captured(node)) - {""}


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    for candidate in node.attribute:
        if candidate.name == name:
            return onnx.helper.get_attribute_value(candidate)
    return default
