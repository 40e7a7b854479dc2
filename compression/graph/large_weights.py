"""Mapped weights, hidden from the quantizer that writes QDQ nodes and rounded tensor by tensor afterwards."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import onnx

from compression import mapped
from compression.graph import stand_ins
from compression.graph.index import Index
from compression.graph.weight_rounding import Rounding
from compression.mapped import Store

_BYTE = 8


def hide(
    graph: onnx.GraphProto, names: Collection[str], roundings: Mapping[str, Rounding]
) -> dict[str, onnx.TensorProto]:
    """Puts a stand-in, one number for each scale, in place of those of the named weights that are mapped.
    Returns these.
    """

    def dims(tensor: onnx.TensorProto) -> list[int] | None:
        if tensor.name not in names:
            return None
        axis = roundings[tensor.name].axis
        return [size if at == axis else 1 for at, size in enumerate(tensor.dims)]

    return stand_ins.exchange(graph, dims)


def show(
    graph: onnx.GraphProto, hidden: Mapping[str, onnx.TensorProto], roundings: Mapping[str, Rounding]
) -> None:
    """Puts them back where they are still read, and their integers, by the scales that were written, where
    the quantizer rounded a stand-in.
    """
    stand_ins.restore(graph, hidden)
    index = Index(graph)
    for name, tensor in hidden.items():
        quantized, scales = index.initializers.get(f"{name}_quantized"), index.constant(f"{name}_scale")
        if quantized is None or scales is None:
            continue
        how = roundings[name]
        weight = how.round_trip(mapped.array(tensor))
        integers = replace(how, scales=scales.reshape(-1), bits=_BYTE).integers(weight)
        quantized.CopyFrom(Store.beside(tensor).instead(tensor, integers, quantized.name))
