"""A torch module as one normalised ONNX file: names of inputs and outputs kept, the batch left open."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from compression.conversion import original
from compression.conversion.failures import converting, failed
from compression.conversion.layout import channels_first
from compression.conversion.original import Original
from compression.engine.convert import to_torch
from compression.errors import CompressionError
from compression.quiet import quiet
from compression.validation import onnx_model
from compression.validation.limits import MAX_BYTES

OPSET = 20
_SIZES = (2, 6, 10, 14, 18, 22)
"""Of dynamic axes in the example: 0 and 1 would be taken for fixed, and equal sizes for one axis."""


def export(model: Original, into: Path, scratch: Path) -> None:
    """Errors: CompressionError `limit_decoded_bytes`, `conversion_failed`, and those of `normalise`."""
    _check_size(model.module)
    path = scratch / "exported.onnx"
    with converting(f"{model.framework} -> ONNX"), quiet():
        _export(model, path)
        if model.channels_last:
            channels_first(path)
    onnx_model.normalise(path, into, folder=scratch)
    path.unlink()


def _check_size(module: nn.Module) -> None:
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    if sum(tensor.nbytes for tensor in tensors.values()) > MAX_BYTES:
        raise CompressionError("limit_decoded_bytes", f"the weights take more than {MAX_BYTES} bytes")


def _export(model: Original, path: Path) -> None:
    dynamic = original.axes(model.arguments)
    if len(dynamic) > len(_SIZES):
        raise failed(f"the model has {len(dynamic)} axes of no fixed size; at most {len(_SIZES)} are taken")
    sizes = dict(zip(dynamic, _SIZES, strict=False))
    example = original.sample(model.arguments, sizes, np.random.default_rng(0))
    with torch.no_grad():
        program = torch.onnx.export(
            model.module,
            tuple(to_torch(value) for value in example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=[argument.name for argument in model.arguments],
            output_names=list(model.outputs),
            dynamic_shapes=(tuple(_dynamic(argument.shape) for argument in model.arguments),),
            verbose=False,
        )
    if program is None:
        raise failed("the exporter returned nothing")
    _check_axes(model, program.model.graph.inputs)
    ClearMetadataAndDocStringPass()(program.model)  # it holds paths of this machine
    program.save(path)


def _dynamic(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {index: axis for index, axis in enumerate(shape) if isinstance(axis, str)}


def _check_axes(model: Original, inputs: Any) -> None:
    """The exporter fixes an axis whose size the model uses as a number, and says nothing."""
    for argument, value in zip(model.arguments, inputs, strict=True):
        for wanted, have in zip(argument.shape, value.shape, strict=True):
            if isinstance(wanted, str) and isinstance(have, int):
                raise failed(
                    f"axis {wanted!r} of input {argument.name!r} cannot be left open in this model",
                    f"give axis {wanted!r} a fixed size and save the model again",
                )
