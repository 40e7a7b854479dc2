"""Error at each tensor that both graphs have: shows the layer where accuracy is lost."""

import numpy as np
import onnx

from compression import samples
from compression.dataset import Array, Split
from compression.errors import CompressionError
from compression.measure.fidelity import decibels
from compression.measure.probe import Probe
from compression.measurement import LayerError
from compression.model import Model

_SAMPLES = 4


class _Energy:
    def __init__(self) -> None:
        self.signal = self.noise = 0.0
        self.comparable = True

    def add(self, reference: Array, value: Array) -> None:
        if reference.shape != value.shape or reference.dtype.kind != "f":
            self.comparable = False
            return
        signal = reference.reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            noise = value.reshape(-1) - signal
            energy = float(np.vdot(signal, signal)), float(np.vdot(noise, noise))
        if np.isfinite(energy).all():
            self.signal += energy[0]
            self.noise += energy[1]


def sqnr(models: tuple[Model, Model], split: Split) -> tuple[LayerError, ...]:
    """In the order of the original graph, over the first few samples. Empty where a graph cannot be opened
    up.
    """
    shared = _shared(models[0].outline.graph, models[1].outline.graph)
    energies = {name: _Energy() for name in shared}
    try:
        original, candidate = Probe(models[0], list(shared)), Probe(models[1], list(shared.values()))
        for feeds in samples.first(split, models[0].inputs, _SAMPLES):
            for energy, reference, value in zip(
                energies.values(), original.values(feeds), candidate.values(feeds), strict=True
            ):
                energy.add(reference, value)
    except CompressionError:
        return ()
    return tuple(
        LayerError(tensor=name, sqnr_db=decibels(energy.signal, energy.noise))
        for name, energy in energies.items()
        if energy.comparable and energy.signal > 0
    )


def _shared(original: onnx.GraphProto, compressed: onnx.GraphProto) -> dict[str, str]:
    """Names in the original -> the same tensor in the other: after rounding, where it is rounded."""
    rounded = _rounded(compressed)
    there = {name for node in compressed.node for name in node.output if name}
    return {
        name: rounded.get(name, name)
        for node in original.node
        for name in node.output
        if name in there and node.op_type not in {"Shape", "Constant", "Gather", "ConstantOfShape"}
    }


def _rounded(graph: onnx.GraphProto) -> dict[str, str]:
    """Float tensor -> what comes out of its QuantizeLinear and DequantizeLinear."""
    quantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {
        quantized[node.input[0]]: node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized
    }
