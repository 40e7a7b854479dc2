"""TensorFlow SavedModels: looked through, run by TensorFlow, written as ONNX, and compared."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from torch import Tensor, nn

from compression.conversion import saved_model_archive, saved_model_graph
from compression.conversion.agreement import compare
from compression.conversion.failures import converting
from compression.conversion.layout import channels_first
from compression.conversion.original import Original
from compression.conversion.saved_model_export import export
from compression.conversion.saved_model_session import Running
from compression.engine.convert import to_numpy, to_torch
from compression.quiet import quiet
from compression.validation import onnx_model


def load(path: Path, names: Sequence[str], into: Path, scratch: Path) -> Mapping[str, Any]:
    """`names` are the members' of the archive. Errors: CompressionError."""
    folder = saved_model_archive.unpack(path, names, scratch / "saved_model")
    plan = saved_model_graph.check(folder / saved_model_archive.GRAPH)
    exported = scratch / "exported.onnx"
    with converting("reading it in TensorFlow"), quiet():
        running = Running.of(folder, plan)
    with converting("TensorFlow -> ONNX"), quiet():
        below = export(running, exported)
        channels_first(exported)
    onnx_model.normalise(exported, into, folder=scratch)
    exported.unlink()
    version = str(tf.__version__)
    arguments = tuple(replace(argument, below=below) for argument in running.arguments)
    model = Original("tensorflow", version, _Module(running), arguments, tuple(running.outputs))
    return {"conversion": compare(model, into)}


class _Module(nn.Module):
    def __init__(self, running: Running) -> None:
        super().__init__()
        self.running = running

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(to_torch(array) for array in self.running.run([to_numpy(one) for one in tensors]))
