"""What a rewritten model must share with the one it came from."""

import onnx

from compression.graph import order, walk


def restore(rewritten: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Inputs, outputs and metadata as in the source; nodes in order; only the domains that are used."""
    graph = rewritten.graph
    for field in ("input", "output"):
        graph.ClearField(field)
        getattr(graph, field).extend(getattr(source.graph, field))
    graph.name = source.graph.name
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(rewritten, field, getattr(source, field))
    del rewritten.metadata_props[:]
    rewritten.metadata_props.extend(source.metadata_props)
    used = {node.domain for node in walk.nodes(graph)} | {""}
    opsets = {entry.domain: entry.version for entry in (*source.opset_import, *rewritten.opset_import)}
    del rewritten.opset_import[:]
    for domain in sorted(domain for domain in opsets if domain in used):
        rewritten.opset_import.add(domain=domain, version=opsets[domain])
    order.sort(graph)
