"""Model: an ONNX graph in memory, with what must be known of it. Treated as immutable: edit a `copy()`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compression.graph import inspection, serialization, tensors
from compression.inspection import ModelInspection, TensorSpec


@dataclass(frozen=True, eq=False)
class Model:
    proto: onnx.ModelProto

    @classmethod
    def open(cls, path: Path) -> "Model":
        """A file that was normalised before (`formats`); hostile ones go through there first."""
        return cls(serialization.parse(path))

    @property
    def serialized(self) -> bytes:
        """As one piece, made anew each time; `save` needs no such copy."""
        return b"".join(serialization.chunks(self.proto))

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(len(piece) for piece in serialization.chunks(self.proto))

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in serialization.chunks(self.proto):
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a caller feeds: graph inputs that no initializer fills."""
        return tensors.inputs(self.proto.graph)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tensors.outputs(self.proto.graph)

    @cached_property
    def opset(self) -> int:
        """Version of the default domain."""
        return inspection.opset(self.proto)

    @cached_property
    def initializers(self) -> Mapping[str, onnx.TensorProto]:
        """Of the outermost graph, by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    def initializer(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Its values; read-only, as they may share the graph's memory."""
        array = onnx.numpy_helper.to_array(self.initializers[name])
        array.flags.writeable = False
        return array

    def inspect(self, format_name: str = "onnx") -> ModelInspection:
        return inspection.inspect(self.proto, format_name, self.size)

    def save(self, path: Path) -> None:
        serialization.write(self.proto, path)

    def copy(self) -> onnx.ModelProto:
        """A deep copy that may be edited."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return proto
